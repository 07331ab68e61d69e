"""Recall of requests: the target is the model's top answer, all tokens. One of its aliases counts as the target."""

from collections.abc import Callable, Sequence

from kbsync.facts import EditRequest
from kbsync.metrics.metric import Readings, Scorer, Triple
from kbsync.models import LoadedModel, TargetScore, score_targets


def recalled(
    loaded: LoadedModel,
    requests: Sequence[EditRequest],
    progress: Callable[[int], None] = lambda done: None,
    score: Scorer = score_targets,
) -> list[bool]:
    """Tell of each request whether the model recalls it on the edit prompt; `score` may know scores already."""
    triples = list(dict.fromkeys((request.prompt, request.subject, request.target) for request in requests))
    scores = dict(zip(triples, score(loaded, triples, progress), strict=True)) if triples else {}
    read = Readings(with_aliases(loaded, scores, [(request.prompt, request) for request in requests], score))
    return [read.recalled(request.prompt, request) for request in requests]


def with_aliases(
    loaded: LoadedModel,
    scores: dict[Triple, TargetScore],
    asked: Sequence[tuple[str, EditRequest]],
    score: Scorer = score_targets,
) -> dict[Triple, TargetScore]:
    """Return the scores with those of the aliases of each (template, request) whose target is not the top answer."""
    missed = [(text, one) for text, one in asked if not scores[text, one.subject, one.target].exact]
    triples = list(dict.fromkeys((text, one.subject, alias) for text, one in missed for alias in one.aliases))
    return scores | dict(zip(triples, score(loaded, triples, lambda done: None), strict=True)) if triples else scores
