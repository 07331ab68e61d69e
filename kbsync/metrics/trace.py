"""Causal tracing (ROME, Meng et al. 2022, arXiv 2202.05262, section 2; MEMIT, section 4.1): where a fact is recalled.

The subject's embeddings are corrupted with noise, so that the model no longer gives the object. Then one hidden state
is put back to what it was, or what the MLPs or attentions of a window of blocks add to it, at one token. How much of
the object's probability comes back is the indirect effect of that token and block. In the severed variants, the MLPs
(or attentions) above a state that is put back at the subject's last token stay at what they gave in the corrupted run:
what the state's effect loses by that was carried by them (MEMIT, Figure 3).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import torch

from kbsync.facts import EditRequest
from kbsync.metrics.intervals import Figure, figures
from kbsync.metrics.trace_batch import (
    ATTENTION,
    GROUPS,
    LAST_SUBJECT,
    MLP,
    STATE,
    TracedBatch,
    place_facts,
    subject_sigma,
)
from kbsync.models import LoadedModel
from kbsync.models.forward import batches_by_length

NOISE = 3.0  # standard deviations of the subjects' embeddings
SAMPLES = 3  # draws of noise for each fact
KINDS = (STATE, MLP, ATTENTION)
SEVERED = (MLP, ATTENTION)
TOKEN_BUDGET = {"cpu": 2048, "cuda": 16384, "mps": 4096}
"""tokens of one run; the hidden states of as many, of all blocks, are kept meanwhile"""


@dataclass(frozen=True, slots=True)
class CausalTrace:
    """Probabilities and indirect effects of n facts, in shares of 1 (negative for harm), means over the noise."""

    clean: torch.Tensor
    """[n] the object's probability"""
    corrupted: torch.Tensor
    """[n] the same with the subject's embeddings corrupted"""
    effects: Mapping[str, torch.Tensor]
    """kind -> [n, groups, layers], the mean over the fact's tokens of the group; NaN where it has none"""
    severed: Mapping[str, torch.Tensor]
    """kind held still -> [n, layers], effects of the state at the subject's last token"""
    groups: tuple[str, ...]
    window: int
    """blocks whose MLP or attention outputs are put back together"""

    def at(self, kind: str, group: str = LAST_SUBJECT) -> torch.Tensor:
        """Return the effects [n, layers] of a kind at a group of tokens."""
        return self.effects[kind][:, self.groups.index(group)]


def default_window(depth: int) -> int:
    """Return how many blocks a window has: ROME's 10 of GPT-2 XL's 48, at the same share of this model's depth."""
    return max(1, round(depth * 10 / 48))


def window_about(layer: int, window: int, depth: int) -> range:
    """Return the blocks of a window about `layer` (one more below than above where it is even), cut at the ends."""
    return range(max(0, layer - window // 2), min(depth, layer - (-window // 2)))


@torch.no_grad()
def causal_trace(
    loaded: LoadedModel,
    facts: Sequence[EditRequest],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    window: int | None = None,
    kinds: Sequence[str] = KINDS,
    severed: Sequence[str] = SEVERED,
    groups: Sequence[str] = GROUPS,
    token_budget: int | None = None,
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None,
) -> CausalTrace:
    """Trace facts that the model knows; the same seed gives the same result on any device and in any batches.

    Every token of the `groups` is put back by itself, in each block. Facts run together under a token budget, and so
    do the places of a batch. `window` is `default_window`'s where it is not given; it does not count for states.
    Raises ModelError where attention is asked for and the family does not say where it is.
    """
    depth = len(loaded.family.block_list(loaded.model))
    window = window or default_window(depth)
    budget = token_budget or TOKEN_BUDGET.get(loaded.device.type, TOKEN_BUDGET["cpu"])
    placed = place_facts(loaded, facts)
    scale = NOISE * subject_sigma(loaded, placed)
    n = len(facts)
    clean, corrupted = torch.zeros(n), torch.zeros(n)
    effects = {kind: torch.full((n, len(groups), depth), torch.nan) for kind in kinds}
    cut = {kind: torch.full((n, depth), torch.nan) for kind in severed}
    done = 0
    # The hidden state's clean outputs are needed by the severed variants, too.
    kept = dict.fromkeys([*kinds, *([STATE] if severed else [])])
    for numbers in batches_by_length([len(fact.ids) * samples for fact in placed], budget):
        batch = TracedBatch(loaded, [placed[number] for number in numbers], [*kept], severed, samples, scale, seed)
        clean[numbers], corrupted[numbers] = batch.clean, batch.corrupted
        places, belongs = places_of(batch, groups)
        at_last = [(row, fact.last) for row, fact in enumerate(batch.facts)]
        for layer in range(depth):
            for kind in kinds:
                layers = range(layer, layer + 1) if kind == STATE else window_about(layer, window, depth)
                found = indirect(batch, kind, layers, places, budget)
                effects[kind][numbers, :, layer] = group_means(found, belongs, len(numbers), len(groups))
            for kind in severed:
                cut[kind][numbers, layer] = indirect(batch, STATE, range(layer, layer + 1), at_last, budget, kind)
            progress("tracing", done * depth + (layer + 1) * len(numbers), n * depth)
        done += len(numbers)
    return CausalTrace(clean, corrupted, effects, cut, tuple(groups), window)


def places_of(batch: TracedBatch, groups: Sequence[str]) -> tuple[list[tuple[int, int]], torch.Tensor]:
    """Return the places (fact, position) of the groups, and for each its cell of a table [facts, groups], flattened."""
    found = [
        (row, position, row * len(groups) + groups.index(group))
        for row, fact in enumerate(batch.facts)
        for position, group in fact.places()
        if group in groups
    ]
    return [(row, position) for row, position, _ in found], torch.tensor([cell for *_, cell in found])


def indirect(
    batch: TracedBatch,
    kind: str,
    layers: range,
    places: Sequence[tuple[int, int]],
    budget: int,
    severed: str | None = None,
) -> torch.Tensor:
    """Return the indirect effects [len(places)], run in parts within the token budget."""
    size = max(1, budget // (batch.rows.ids.shape[1] * batch.samples))
    parts = [places[start : start + size] for start in range(0, len(places), size)]
    found = torch.cat([batch.put_back(kind, layers, part, severed) for part in parts])
    return found - batch.corrupted[[fact for fact, _ in places]]


def group_means(found: torch.Tensor, cells: torch.Tensor, n: int, groups: int) -> torch.Tensor:
    """Return the means [n, groups] of effects by their cell; NaN where a cell has none."""
    sums = torch.zeros(n * groups).index_add_(0, cells, found)
    return (sums / torch.bincount(cells, minlength=n * groups)).view(n, groups)


def mlp_effects(loaded: LoadedModel, facts: Sequence[EditRequest]) -> dict[str, Any]:
    """Trace one block's MLP at a time, at the subject's last token alone: which blocks' MLPs carry a fact.

    Returns the objects' mean probabilities, clean and corrupted, and each block's mean indirect effect on them (layers;
    0 to 1, negative for harm).
    """
    found = causal_trace(loaded, facts, window=1, kinds=[MLP], severed=[], groups=[LAST_SUBJECT])
    by_layer = tuple(found.at(MLP).mean(0).tolist())
    return {"clean": float(found.clean.mean()), "corrupted": float(found.corrupted.mean()), "layers": by_layer}


def trace_figures(found: CausalTrace) -> dict[str, Any]:
    """Return the figures of a trace of all kinds, groups and severed variants; bootstrap over its facts.

    They are in percent of probability, a value for each block where there are several; effects are negative for harm.
    """
    lost = found.at(STATE) - found.severed[MLP]
    (clean,), (corrupted,) = whole(found.clean[:, None]), whole(found.corrupted[:, None])
    return {
        "window": found.window,
        "clean": clean,  # probability of the object
        "corrupted": corrupted,  # the same with the subject's embeddings corrupted
        "effects": {  # state, mlp, attention -> group of tokens; None where no fact has such a token
            kind: {group: means(table[:, number]) for number, group in enumerate(found.groups)}
            for kind, table in found.effects.items()
        },
        # of the state at the subject's last token with the MLPs, or attentions, severed
        "severed": {kind: whole(table) for kind, table in found.severed.items()},
        "gap": whole(lost),  # what that effect loses where the MLPs are severed
    }


def mediated(gap: Sequence[Figure]) -> list[float] | None:
    """Return the gaps' means, if the largest is above 0 beyond chance: the MLPs carry the fact then."""
    largest = max(gap, key=lambda one: one.mean)
    return [one.mean for one in gap] if largest.low > 0 else None


def means(table: torch.Tensor) -> tuple[Figure | None, ...]:
    """Return a figure for each column [facts] of a table [facts, k], in percent; None for one that is all NaN."""
    columns = {
        str(number): [None if isnan(value) else 100 * value for value in column.tolist()]
        for number, column in enumerate(table.T)
    }
    found = figures(columns)
    return tuple(found.get(name) for name in columns)


def whole(table: torch.Tensor) -> tuple[Figure, ...]:
    return tuple(figure for figure in means(table) if figure is not None)
