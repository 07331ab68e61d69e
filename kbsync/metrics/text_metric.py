"""What a metric over text is: what it reads off each text, and what it makes of the means."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from kbsync.models import LoadedModel

__all__ = ["TextMetric"]


@dataclass(frozen=True, slots=True)
class TextMetric:
    """A metric with one figure for all of a text that no edit is about."""

    name: str
    read: Callable[[LoadedModel, Sequence[str], int], torch.Tensor]
    """model, lines and most tokens of a line -> [n, k] in float64, a row for each line that has something to read"""
    of_means: Callable[[torch.Tensor], torch.Tensor]
    """means of the rows [..., k] -> the figure [...]"""
