"""What is measured and what a metric is: cases, what a model answers to them, and what a metric makes of that."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from kbsync.facts import EditRequest
from kbsync.metrics.recall import Triple
from kbsync.models import LoadedModel, TargetScore

__all__ = ["Case", "CaseMetric", "Neighbour", "Readings", "TextMetric", "Values", "mean"]

Values = list[float | None]
"""a figure for each case, None where it has no prompt for it"""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A prompt that an edit is not about, mostly on an unedited subject of its relation, and its own object."""

    prompt: str
    subject: str
    object: str


@dataclass(frozen=True, slots=True)
class Case:
    """An edit to measure: the request, the object before it (o^c; "" where none is named), and its neighbourhood."""

    request: EditRequest
    old: str
    neighbours: tuple[Neighbour, ...] = ()
    portability: tuple[Neighbour, ...] = ()
    """prompts whose object follows from the edit"""
    generation: tuple[str, ...] = ()
    """beginnings of free text about the subject"""
    references: tuple[str, ...] = ()
    """texts about the target, for that free text to be like"""


@dataclass(frozen=True, slots=True)
class Readings:
    """What a model, as it is, said to the cases."""

    scores: Mapping[Triple, TargetScore]
    texts: Mapping[str, str]
    """generation prompt -> the prompt with the text generated after it"""


@dataclass(frozen=True, slots=True)
class CaseMetric:
    """A metric with a figure for each case; higher is better."""

    name: str
    values: Callable[[Sequence[Case], Readings], Values]
    triples: Callable[[Case], Iterable[Triple]] = lambda case: ()
    """the (template, subject, object) whose scores it reads"""
    prompts: Callable[[Case], Iterable[str]] = lambda case: ()
    """the prompts whose generated texts it reads"""


@dataclass(frozen=True, slots=True)
class TextMetric:
    """A metric with one figure for all of a text that no edit is about."""

    name: str
    read: Callable[[LoadedModel, Sequence[str], int], torch.Tensor]
    """model, lines and most tokens of a line -> [n, k] in float64, a row for each line that has something to read"""
    of_means: Callable[[torch.Tensor], torch.Tensor]
    """means of the rows [..., k] -> the figure [...]"""


def mean(values: Sequence[float], scale: float = 100.0) -> float | None:
    """Return the mean times `scale` (a share becomes a percentage); None of nothing."""
    return scale * sum(values) / len(values) if values else None
