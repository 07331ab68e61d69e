"""Token rows run block by block, with what many of them begin with run once.

By causality the states at a row's first tokens do not depend on what follows. So rows that begin alike share a prefix:
it is run by itself, and the rest of each row reads its keys and values in the attention. The states that enter the
block at hand are kept, so that no block below it is run again.
"""

import copy
from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from kbsync.models import LoadedModel, Rows, capture, make_rows, resume, stop_after, stop_before
from kbsync.models.forward import batches_by_length, continue_hidden, prefill

TOKEN_BUDGET = 8192
"""padded tokens of one batch, prefixes included"""
ENOUGH = 1024
"""a batch with so many tokens is not filled up with shorter rows: their padding would cost more than another batch"""


@dataclass(slots=True)
class Part:
    """Token rows with the hidden states that enter the block at hand."""

    rows: Rows
    states: torch.Tensor | None = None
    """[B, T, d], the output of the block below; None where that is the embedding"""


@dataclass(slots=True)
class RowBatch:
    """What follows the prefix in some of the rows."""

    part: Part
    places: list[int]
    """which of all rows these are"""
    prefix_of: torch.Tensor
    """[B] which prefix each begins with"""
    prefixes: Rows
    """[B, T] the tokens of each one's prefix"""


class SharedRows:
    """Token rows, each parted into a prefix and the rest.

    Alike in the prefix are the rows of one context, or those of one prompt in one context where that saves more.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        ids: Sequence[tuple[int, ...]],
        shareable: Sequence[int],
        prompts: Sequence[str],
        contexts: Sequence[str],
    ) -> None:
        """Take token rows, how many first tokens of each may be in a prefix, and the prompt and context of each."""
        self.loaded, self.blocks = loaded, loaded.family.block_list(loaded.model)
        self.as_tuple = False
        self.cache: list[Any] = []
        """for each block, the prefixes' keys and values of its attention as they were when it ran last"""
        lengths = min(
            shared_lengths(ids, shareable, contexts),
            shared_lengths(ids, shareable, prompts),
            key=lambda one: tokens_to_run(ids, one),
        )
        numbers: dict[tuple[int, ...], int] = {}
        prefix_of = [numbers.setdefault(row[:length], len(numbers)) for row, length in zip(ids, lengths, strict=True)]
        prefixes = make_rows(list(numbers), loaded.device, left=True)
        longest = prefixes.ids.shape[1]
        chunk = max(1, TOKEN_BUDGET // longest)
        self.prefixes = [
            Part(Rows(prefixes.ids[start : start + chunk], prefixes.mask[start : start + chunk]))
            for start in range(0, len(numbers), chunk)
        ]
        rests = [row[length:] for row, length in zip(ids, lengths, strict=True)]
        self.batches = []
        for places in batches_by_length(list(map(len, rests)), TOKEN_BUDGET, longest, ENOUGH):
            chosen = torch.tensor([prefix_of[place] for place in places], device=loaded.device)
            part = Part(make_rows([rests[place] for place in places], loaded.device))
            own = Rows(prefixes.ids[chosen], prefixes.mask[chosen])
            self.batches.append(RowBatch(part, places, chosen, own))
        self.parts = [*self.prefixes, *(batch.part for batch in self.batches)]

    @property
    def states(self) -> list[torch.Tensor | None]:
        """The states that enter the block at hand, to go back to."""
        return [part.states for part in self.parts]

    @states.setter
    def states(self, states: Sequence[torch.Tensor | None]) -> None:
        for part, kept in zip(self.parts, states, strict=True):
            part.states = kept

    def advance(self, begin: int, end: int) -> None:
        """Run blocks `begin` to `end` as they are now, and keep the last one's output as the entering states."""
        outputs = self.run_prefixes(begin, end)
        for batch in self.batches:
            with capture(self.blocks[end]) as captured:
                self.run(batch, begin, end)
            outputs.append(captured.value)
            self.as_tuple = captured.as_tuple
        self.states = outputs

    def run_prefixes(self, begin: int, end: int, before: nn.Module | None = None) -> list[torch.Tensor | None]:
        """Run blocks `begin` to `end` on all prefixes, and keep the keys and values of their attention.

        Returns what the last block gives. With `before`, the pass ends where that module of the last block, behind its
        attention, would run; then there is nothing to return.
        """
        caches, outputs = [], []
        for part in self.prefixes:
            cache = DynamicCache(config=self.loaded.model.config)
            with ExitStack() as stack:
                if before is not None:
                    stack.enter_context(stop_before(before))
                captured = stack.enter_context(capture(self.blocks[end]))
                stack.enter_context(self.blocks_from(begin, end, part.states))
                prefill(self.loaded, part.rows, cache)
            outputs.append(None if before is not None else captured.value)
            caches.append(cache.layers)
        self.cache[begin:] = [joined([layers[layer] for layers in caches]) for layer in range(begin, end + 1)]
        return outputs

    def run(self, batch: RowBatch, begin: int, end: int) -> None:
        """Run blocks `begin` to `end` on the rest of a batch's rows; what they give is read by whoever captures it."""
        cache = DynamicCache(config=self.loaded.model.config)
        for layer, kept in enumerate(self.cache[: end + 1]):
            cache.layers[layer] = own = copy.copy(kept)
            if layer >= begin:  # of blocks that do not run, the lengths alone are read
                own.batch_select_indices(batch.prefix_of.to(own.keys.device))
        with self.blocks_from(begin, end, batch.part.states):
            continue_hidden(self.loaded, batch.prefixes, batch.part.rows, cache)

    @contextmanager
    def blocks_from(self, begin: int, end: int, states: torch.Tensor | None) -> Iterator[None]:
        """Let a forward pass begin with block `begin`, which `states` enter, and end after block `end`."""
        with ExitStack() as stack:
            if begin > 0:
                stack.enter_context(resume(self.blocks, begin - 1, self.as_tuple)).value = states
            if end < len(self.blocks) - 1:
                stack.enter_context(stop_after(self.blocks[end]))
            yield

    def in_order(self, found: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return values [B, n] of each batch as one tensor with a row for each of all rows."""
        order = torch.tensor([place for batch in self.batches for place in batch.places], device=found[0].device)
        values = torch.cat(list(found))
        return torch.empty_like(values).index_copy_(0, order, values)


def joined(layers: Sequence[Any]) -> Any:
    """Return one layer of a cache with the rows of several."""
    if len(layers) == 1:
        return layers[0]
    whole = copy.copy(layers[0])
    whole.keys = torch.cat([layer.keys for layer in layers])
    whole.values = torch.cat([layer.values for layer in layers])
    return whole


def shared_lengths(ids: Sequence[tuple[int, ...]], shareable: Sequence[int], classes: Sequence[Hashable]) -> list[int]:
    """Return for each row how many tokens all rows of its class begin with, as far as they are shareable."""
    first: dict[Hashable, tuple[int, ...]] = {}
    shared: dict[Hashable, int] = {}
    for row, limit, name in zip(ids, shareable, classes, strict=True):
        other = first.setdefault(name, row)
        most = min(shared.get(name, limit), limit)
        shared[name] = next((place for place in range(most) if row[place] != other[place]), most)
    return [shared[name] for name in classes]


def tokens_to_run(ids: Sequence[tuple[int, ...]], lengths: Sequence[int]) -> int:
    """Return how many tokens are run where each row's first tokens, so many, are shared with all rows alike in them."""
    prefixes = {row[:length] for row, length in zip(ids, lengths, strict=True)}
    return sum(map(len, prefixes)) + sum(len(row) - length for row, length in zip(ids, lengths, strict=True))
