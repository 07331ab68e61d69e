"""Edits that the model does not recall: how likely their object is, and what the model says in its place."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kbsync.facts import EditRequest
from kbsync.models import LoadedModel, greedy_answers, locate, score_targets
from kbsync.sync.plan import prompt_of

__all__ = ["Failure", "failures"]


@dataclass(frozen=True, slots=True)
class Failure:
    """An edit that is not recalled; probabilities, from 0 to 1, are of the whole object and of the whole answer."""

    subject: str
    relation: str
    object: str
    probability: float
    rival: str
    """the model's own answer to the edit prompt; empty where it ends the text"""
    rival_probability: float | None


def failures(loaded: LoadedModel, requests: Sequence[EditRequest]) -> tuple[Failure, ...]:
    """Ask the model, as it is, for the edits of these requests; none of them is to be recalled by it."""
    rivals = greedy_answers(loaded, [prompt_of(request) for request in requests])
    own = _probabilities(loaded, [(one.prompt, one.subject, one.target) for one in requests])
    asked = [(one.prompt, one.subject, rival) for one, rival in zip(requests, rivals, strict=True) if rival]
    theirs = dict(zip(asked, _probabilities(loaded, asked), strict=True))
    return tuple(
        Failure(one.subject, one.relation, one.target, likely, rival, theirs.get((one.prompt, one.subject, rival)))
        for one, likely, rival in zip(requests, own, rivals, strict=True)
    )


def _probabilities(loaded: LoadedModel, triples: Sequence[tuple[str, str, str]]) -> list[float]:
    """Return the product of the probabilities of each target's tokens."""
    if not triples:
        return []
    lengths = [len(tokens.target) for tokens in locate(loaded.tokenizer, triples)]
    scores = score_targets(loaded, triples)
    return [math.exp(score.log_prob * length) for score, length in zip(scores, lengths, strict=True)]
