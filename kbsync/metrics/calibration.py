"""What a model is sure of, against what is right: answers in its own words, by the probability of their first token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kbsync.metrics.intervals import LEVELS, Figure
from kbsync.metrics.kept import next_tokens
from kbsync.metrics.said import says_first
from kbsync.models import LoadedModel, greedy_answers

BINS = 5
DRAWS = 200
"""resamples of the answers"""


@dataclass(frozen=True, slots=True)
class Sure:
    """One answer: how sure the model was of it, 0 to 1, and whether it was right."""

    probability: float
    right: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """The answers of which a model was about as sure; percent."""

    low: float
    high: float
    answers: int
    sure: float
    """mean of how sure it was"""
    right: float


def sureness(loaded: LoadedModel, asked: Sequence[tuple[str, Sequence[str]]]) -> list[Sure]:
    """Ask each (prompt, right names), greedily."""
    prompts = [prompt for prompt, _ in asked]
    likely = next_tokens(loaded, prompts).max(-1).values.exp().tolist() if prompts else []
    said = greedy_answers(loaded, prompts)
    return [
        Sure(sure, says_first(answer, names, prompt))
        for sure, answer, (prompt, names) in zip(likely, said, asked, strict=True)
    ]


def bins(answers: Sequence[Sure]) -> list[Bin]:
    """Return the answers in `BINS` parts of equal width; parts without an answer are left out."""
    parts: list[list[Sure]] = [[] for _ in range(BINS)]
    for one in answers:
        parts[min(BINS - 1, int(one.probability * BINS))].append(one)
    width = 100 / BINS
    return [
        Bin(
            place * width,
            (place + 1) * width,
            len(part),
            100 * sum(one.probability for one in part) / len(part),
            100 * sum(one.right for one in part) / len(part),
        )
        for place, part in enumerate(parts)
        if part
    ]


def error_of(answers: Sequence[Sure]) -> float:
    """Return the mean of |sure - right| over the answers' bins, in points."""
    return sum(one.answers * abs(one.sure - one.right) for one in bins(answers)) / len(answers)


def calibration_error(answers: Sequence[Sure], seed: int = 0) -> Figure:
    """Return the expected calibration error, 0 to 100, of one answer or more, by bootstrap over answers."""
    generator = torch.Generator().manual_seed(seed)
    n = len(answers)
    draws = torch.randint(n, (DRAWS, n), generator=generator).tolist()
    errors = torch.tensor([error_of([answers[place] for place in drawn]) for drawn in draws], dtype=torch.float64)
    low, high = errors.quantile(torch.tensor(LEVELS, dtype=torch.float64)).tolist()
    return Figure(error_of(answers), low, high, n)
