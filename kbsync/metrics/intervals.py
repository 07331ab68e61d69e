"""Means over cases, harmonic means of them, and 95% intervals by bootstrap over cases; the same over lines of text.

What a model is sure of, against what is right: answers in its own words, by the probability of their first token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, harmonic_mean

import torch

from kbsync.metrics.generation import of_means
from kbsync.metrics.registry import MEANS
from kbsync.metrics.said import next_tokens, says_first
from kbsync.models import LoadedModel, greedy_answers

DRAWS = 1000  # resamples of the cases
LEVELS = torch.tensor((0.025, 0.975), dtype=torch.float64)
CHUNK = 1 << 22  # drawn indices that are held at once


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
    return {name: figure_of(one, spread[name], counts[name]) for name, one in means.items()}


def figure_of(mean: torch.Tensor | float, drawn: torch.Tensor, cases: int) -> Figure:
    """Return a figure with the interval that its values `drawn` [DRAWS] tell; NaN counts not."""
    low, high = drawn.nanquantile(LEVELS).tolist()
    return Figure(float(mean), low, high, cases)


def perplexity_figure(losses: torch.Tensor, seed: int = 0) -> Figure:
    """Return the perplexity of `line_losses` [n, 2] of n lines, 1 or more, by bootstrap over lines."""
    mean = of_means(losses.mean(0))
    if not mean.isfinite():
        return Figure(float(mean), float(mean), float(mean), len(losses))
    return figure_of(mean, of_means(resampled_means(losses, seed)), len(losses))


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


BINS = 5
CALIBRATION_DRAWS = 200  # resamples of the answers


@dataclass(frozen=True, slots=True)
class Sure:
    """One answer: how sure the model was of it, 0 to 1, and whether it was right."""

    probability: float
    right: bool


def sureness(loaded: LoadedModel, asked: Sequence[tuple[str, Sequence[str]]]) -> list[Sure]:
    """Ask each (prompt, right names), greedily."""
    prompts = [prompt for prompt, _ in asked]
    likely = next_tokens(loaded, prompts).max(-1).values.exp().tolist() if prompts else []
    said = greedy_answers(loaded, prompts)
    return [
        Sure(sure, says_first(answer, names, prompt))
        for sure, answer, (prompt, names) in zip(likely, said, asked, strict=True)
    ]


def bins(answers: Sequence[Sure]) -> list[dict[str, float]]:
    """Return the answers in `BINS` parts of equal width, in percent; parts without an answer are left out.

    Each has its bounds, how many answers it holds, the mean of how sure the model was of them, and how many are right.
    """
    parts: list[list[Sure]] = [[] for _ in range(BINS)]
    for one in answers:
        parts[min(BINS - 1, int(one.probability * BINS))].append(one)
    width = 100 / BINS
    return [
        {
            "low": place * width,
            "high": (place + 1) * width,
            "answers": len(part),
            "sure": 100 * sum(one.probability for one in part) / len(part),
            "right": 100 * sum(one.right for one in part) / len(part),
        }
        for place, part in enumerate(parts)
        if part
    ]


def error_of(answers: Sequence[Sure]) -> float:
    """Return the mean of |sure - right| over the answers' bins, in points."""
    return sum(one["answers"] * abs(one["sure"] - one["right"]) for one in bins(answers)) / len(answers)


def calibration_error(answers: Sequence[Sure], seed: int = 0) -> Figure:
    """Return the expected calibration error, 0 to 100, of one answer or more, by bootstrap over answers."""
    generator = torch.Generator().manual_seed(seed)
    n = len(answers)
    draws = torch.randint(n, (CALIBRATION_DRAWS, n), generator=generator).tolist()
    errors = torch.tensor([error_of([answers[place] for place in drawn]) for drawn in draws], dtype=torch.float64)
    return figure_of(error_of(answers), errors, n)
