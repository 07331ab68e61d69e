"""Stats: the covariances of a model's edited layers as a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from kbsync.ledger import Ledger
from kbsync.sync.choice import ModelChoice, choose_model
from kbsync.sync.corpus import settle_stdin
from kbsync.sync.covariances import Covariances, covariances_for
from kbsync.sync.loading import AS_STORED, Loading
from kbsync.sync.progress import Progress
from kbsync.sync.sampled_text import with_text

__all__ = ["LayerStats", "Stats", "StatsOptions", "covariances_of", "stats"]

EIGENVALUES_UP_TO = 2048
"""m up to which the eigenvalues take about a second"""


@dataclass(frozen=True, slots=True)
class StatsOptions:
    """Which model, and which text; without a corpus what is on record."""

    model: str
    corpus: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    """settings by name"""
    loading: Loading = AS_STORED


@dataclass(frozen=True, slots=True)
class LayerStats:
    """A layer's covariance."""

    layer: int
    m: int
    tokens: int
    change: float | None
    """relative change since half the tokens"""
    condition: float | None
    """largest eigenvalue over the smallest; None for a large m"""
    seconds: float
    """of the pass that collected it"""
    cached: bool
    """whether it was on record"""
    file: str


@dataclass(frozen=True, slots=True)
class Stats:
    """The covariances of a model."""

    model: str
    corpus: str
    length: int
    """tokens of a row"""
    layers: tuple[LayerStats, ...]
    remark: str | None


def covariances_of(home: Path, options: StatsOptions, progress: Progress) -> tuple[ModelChoice, Covariances]:
    """Return a model with the covariances of its edited layers, collected where they are not on record."""
    progress("loading the model", 0, 1)
    corpus = settle_stdin(options.corpus, home)
    choice = choose_model(options.model, options.values, loading=options.loading, corpus=corpus)
    progress("loading the model", 1, 1)
    with Ledger.open(home) as ledger:
        choice = with_text(ledger.home, choice, progress)
        return choice, covariances_for(ledger.tensors, choice, progress)


def stats(home: Path, options: StatsOptions, progress: Progress) -> Stats:
    """Return the table; raises SettingsError where there is neither a corpus nor a covariance on record."""
    choice, covariances = covariances_of(home, options, progress)
    first = covariances.records[choice.settings.layers[0]]
    return Stats(
        choice.name,
        first.corpus,
        first.length,
        tuple(layer_stats(covariances, layer) for layer in covariances),
        choice.remark,
    )


def layer_stats(covariances: Covariances, layer: int) -> LayerStats:
    """Return a layer's row."""
    record = covariances.records[layer]
    return LayerStats(
        layer,
        record.m,
        record.tokens,
        record.change,
        condition(covariances[layer]) if record.m <= EIGENVALUES_UP_TO else None,
        record.seconds,
        layer in covariances.cached,
        record.path(covariances.folder).name,
    )


def condition(covariance: torch.Tensor) -> float | None:
    """Return the largest eigenvalue over the smallest; None where C is singular."""
    values = torch.linalg.eigvalsh(covariance)
    return float(values[-1] / values[0]) if values[0] > 0 else None
