"""Recall: a request's target is the model's top answer, all tokens. One of its aliases counts as the target."""

from collections.abc import Callable, Sequence

from kbsync.facts import EditRequest
from kbsync.models import LoadedModel, TargetScore, score_targets

__all__ = ["Scorer", "Triple", "recalled", "recalled_by_alias"]

Triple = tuple[str, str, str]
"""(template, subject, object)"""
Scorer = Callable[[LoadedModel, Sequence[Triple], Callable[[int], None]], list[TargetScore]]
"""`score_targets`, or what else knows how a model takes to targets"""


def recalled(
    loaded: LoadedModel,
    requests: Sequence[EditRequest],
    progress: Callable[[int], None] = lambda done: None,
    score: Scorer = score_targets,
) -> list[bool]:
    """Tell of each request whether the model recalls it on the edit prompt; `score` may know scores already."""
    triples = [(request.prompt, request.subject, request.target) for request in requests]
    exact = [one.exact for one in score(loaded, triples, progress)] if triples else []
    missed = [(request.prompt, request) for request, right in zip(requests, exact, strict=True) if not right]
    by_alias = recalled_by_alias(loaded, missed, score)
    return [right or triple in by_alias for right, triple in zip(exact, triples, strict=True)]


def recalled_by_alias(
    loaded: LoadedModel, missed: Sequence[tuple[str, EditRequest]], score: Scorer = score_targets
) -> set[Triple]:
    """Return (template, subject, target) of each (template, request) whose top answer is an alias of the target."""
    asked = [(text, request, alias) for text, request in missed for alias in request.aliases]
    if not asked:
        return set()
    scores = score(loaded, [(text, request.subject, alias) for text, request, alias in asked], lambda done: None)
    return {
        (text, request.subject, request.target)
        for (text, request, _), one in zip(asked, scores, strict=True)
        if one.exact
    }
