"""What a metric over cases is: which answers and texts of the model it reads, and what it makes of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from kbsync.metrics.cases import Case
from kbsync.metrics.recall import Triple
from kbsync.models import TargetScore

__all__ = ["CaseMetric", "Readings", "Values", "mean"]

Values = list[float | None]
"""a figure for each case, None where it has no prompt for it"""


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


def mean(values: Sequence[float], scale: float = 100.0) -> float | None:
    """Return the mean times `scale` (a share becomes a percentage); None of nothing."""
    return scale * sum(values) / len(values) if values else None
