"""The figures of a causal trace: average indirect effects in percent, with 95% intervals over facts."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan

import torch

from kbsync.metrics.intervals import Figure, figures
from kbsync.metrics.trace import CausalTrace
from kbsync.metrics.trace_batch import MLP, STATE

__all__ = ["TraceFigures", "trace_figures"]


@dataclass(frozen=True, slots=True)
class TraceFigures:
    """Percent of probability, a value for each block where there are several; effects are negative for harm."""

    clean: Figure
    """probability of the object"""
    corrupted: Figure
    """the same with the subject's embeddings corrupted"""
    effects: Mapping[str, Mapping[str, tuple[Figure | None, ...]]]
    """state, mlp, attention -> group of tokens -> average indirect effects; None where no fact has such a token"""
    severed: Mapping[str, tuple[Figure, ...]]
    """mlp, attention -> effects of the state at the subject's last token with these severed"""
    gap: tuple[Figure, ...]
    """what that effect loses where the MLPs are severed"""
    window: int
    """blocks whose MLP or attention outputs are put back together"""

    @property
    def mediated(self) -> list[float] | None:
        """The gaps' means, if the largest is above 0 beyond chance: the MLPs carry the fact then."""
        largest = max(self.gap, key=lambda one: one.mean)
        return [one.mean for one in self.gap] if largest.low > 0 else None


def trace_figures(found: CausalTrace) -> TraceFigures:
    """Return the figures of a trace of all kinds, groups and severed variants; bootstrap over its facts."""
    lost = found.at(STATE) - found.severed[MLP]
    (clean,), (corrupted,) = whole(found.clean[:, None]), whole(found.corrupted[:, None])
    return TraceFigures(
        clean,
        corrupted,
        {
            kind: {group: means(table[:, number]) for number, group in enumerate(found.groups)}
            for kind, table in found.effects.items()
        },
        {kind: whole(table) for kind, table in found.severed.items()},
        whole(lost),
        found.window,
    )


def means(table: torch.Tensor) -> tuple[Figure | None, ...]:
    """Return a figure for each column [facts] of a table [facts, k], in percent; None for one that is all NaN."""
    columns = {
        str(number): [None if isnan(value) else 100 * value for value in column.tolist()]
        for number, column in enumerate(table.T)
    }
    found = figures(columns)
    return tuple(found.get(name) for name in columns)


def whole(table: torch.Tensor) -> tuple[Figure, ...]:
    """Return the figures of a table without NaN."""
    return tuple(figure for figure in means(table) if figure is not None)
