"""Means over cases, harmonic means of them, and 95% intervals by bootstrap over cases; the same over lines of text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, harmonic_mean

import torch

from kbsync.metrics.metric import TextMetric
from kbsync.metrics.registry import MEANS

DRAWS = 1000
"""resamples of the cases"""
LEVELS = (0.025, 0.975)
CHUNK = 1 << 22
"""drawn indices that are held at once"""


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric's mean over the cases (or lines of text) that have it, with its 95% interval."""

    mean: float
    low: float
    high: float
    cases: int


def summary(values: Mapping[str, Sequence[float | None]]) -> dict[str, float]:
    """Return the mean of each metric over the cases that have it, and the harmonic means whose parts are all there."""
    there = {name: [value for value in column if value is not None] for name, column in values.items()}
    means = {name: fmean(column) for name, column in there.items() if column}
    whole = {name: [means[part] for part in parts] for name, parts in MEANS.items() if means.keys() >= {*parts}}
    return means | {name: harmonic_mean(parts) for name, parts in whole.items()}


def figures(values: Mapping[str, Sequence[float | None]], seed: int = 0) -> dict[str, Figure]:
    """Return the figures of metrics and of the harmonic means whose parts are all there.

    All are taken from the same `DRAWS` resamples of the cases (percentile bootstrap); a metric that no case has is
    left out.
    """
    own = {name: column for name, column in values.items() if any(value is not None for value in column)}
    if not own:
        return {}
    columns = [[torch.nan if value is None else value for value in column] for column in own.values()]
    table = torch.tensor(columns, dtype=torch.float64).T  # [n, k]
    drawn = resampled_means(table, seed)
    means = dict(zip(own, table.nanmean(0), strict=True))
    spread = dict(zip(own, drawn.T, strict=True))
    counts = {name: sum(value is not None for value in column) for name, column in own.items()}
    for name, parts in MEANS.items():
        if all(part in own for part in parts):
            means[name] = harmonic([means[part] for part in parts])
            spread[name] = harmonic([spread[part] for part in parts])
            counts[name] = min(counts[part] for part in parts)
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    found = {}
    for name, one in means.items():
        low, high = spread[name].nanquantile(levels).tolist()
        found[name] = Figure(float(one), low, high, counts[name])
    return found


def text_figure(metric: TextMetric, read: torch.Tensor, seed: int = 0) -> Figure:
    """Return the figure of what a metric has read off n lines [n, k], 1 or more, by bootstrap over lines."""
    mean = metric.of_means(read.mean(0))
    if not mean.isfinite():
        return Figure(float(mean), float(mean), float(mean), len(read))
    drawn = metric.of_means(resampled_means(read, seed))
    low, high = drawn.quantile(torch.tensor(LEVELS, dtype=torch.float64)).tolist()
    return Figure(float(mean), low, high, len(read))


def resampled_means(table: torch.Tensor, seed: int) -> torch.Tensor:
    """Return the columns' means [DRAWS, k] over cases [n, k] drawn with replacement; NaN where none has a value."""
    n, generator = len(table), torch.Generator().manual_seed(seed)
    there, filled = (~table.isnan()).double(), table.nan_to_num()
    means = []
    for part in torch.arange(DRAWS).split(max(1, CHUNK // n)):
        drawn = torch.randint(n, (len(part), n), generator=generator)
        times = torch.zeros(len(part), n, dtype=torch.float64).scatter_add_(
            1, drawn, torch.ones_like(drawn, dtype=torch.float64)
        )
        means.append(times @ filled / (times @ there))
    return torch.cat(means)


def harmonic(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the harmonic mean of tensors of one shape, elementwise; 0 where one of them is."""
    return len(parts) / torch.stack([1 / part for part in parts]).sum(0)
