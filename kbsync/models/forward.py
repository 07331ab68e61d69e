"""Forward passes over batches of token rows: padding, hidden states, log-probabilities where they are read.

Read and replace what flows through a model's blocks. Every change is undone on leaving, whatever happens.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache as kept
from typing import Any

import torch
from torch import nn
from transformers import Cache, DynamicCache

from kbsync.errors import ModelError
from kbsync.models.loaded import LoadedModel


class Captured:
    """What `capture` read: `value` is the tensor, `as_tuple` tells whether the module gave it inside a tuple."""

    value: torch.Tensor
    as_tuple: bool = False

    def by_row(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the value as [B, T, ...] for `ids` [B, T], where the module was given it flat (OPT's MLP), too."""
        return self.value.view(*ids.shape, *self.value.shape[-1:])


class StopForward(Exception):  # noqa: N818 - ends a pass on purpose, no error
    """Raised inside a forward pass to end it where nothing further is wanted."""


def first_tensor(output: Any) -> torch.Tensor:
    """Return a module's output, or the first of a tuple."""
    tensor: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return tensor


def first_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """Return the hidden states that a module is given, by place or by name."""
    tensor: torch.Tensor = args[0] if args else kwargs["hidden_states"]
    return tensor


@contextmanager
def capture(module: nn.Module, *, inputs: bool = False) -> Iterator[Captured]:
    """Keep the last output (or first input) of `module` in the yielded `Captured`."""
    captured = Captured()

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        captured.as_tuple = isinstance(output, tuple)
        captured.value = first_input(args, kwargs) if inputs else first_tensor(output)

    with module.register_forward_hook(keep, with_kwargs=True):
        yield captured


@contextmanager
def watch(module: nn.Module, see: Callable[[torch.Tensor], None]) -> Iterator[None]:
    """Show the first input of `module` to `see` each time that it runs; nothing is kept."""

    def show(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        see(first_input(args, kwargs))

    with module.register_forward_pre_hook(show, with_kwargs=True):
        yield


@contextmanager
def replace(module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Pass the output of `module` through `change`."""

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    with module.register_forward_hook(hook):
        yield


@contextmanager
def stop_after(module: nn.Module) -> Iterator[None]:
    """End the forward pass inside this context once `module` has run."""

    def stop(*_: Any) -> None:
        raise StopForward

    with suppress(StopForward), module.register_forward_hook(stop):
        yield


@contextmanager
def stop_before(module: nn.Module) -> Iterator[Captured]:
    """End the forward pass inside this context where `module` would run; the `Captured` keeps its first input."""
    captured = Captured()

    def stop(given: torch.Tensor) -> None:
        captured.value = given
        raise StopForward

    with suppress(StopForward), watch(module, stop):
        yield captured


class StandIn(nn.Module):
    """Takes a block's place: passes its input on, or gives back `value` where that is set.

    Attributes that the model looks up on its blocks are those of the block that it stands for.
    """

    def __init__(self, block: nn.Module, as_tuple: bool) -> None:
        super().__init__()
        object.__setattr__(self, "block", block)  # not registered: the block's weights are no part of a stand-in
        self.as_tuple = as_tuple
        self.value: torch.Tensor | None = None

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return the stored value in the block's place."""
        output = hidden_states if self.value is None else self.value
        return (output, None) if self.as_tuple else output

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(object.__getattribute__(self, "block"), name)


@contextmanager
def resume(blocks: nn.ModuleList, layer: int, as_tuple: bool) -> Iterator[StandIn]:
    """Let the model's forward begin after block `layer`: yield the stand-in whose `value` is that block's output.

    Blocks 0 to `layer` are replaced, so none of them runs; the list keeps its length.
    """
    originals: Sequence[nn.Module] = list(blocks[: layer + 1])
    stand_ins = [StandIn(block, as_tuple) for block in originals]
    try:
        for place, stand_in in enumerate(stand_ins):
            blocks[place] = stand_in
        yield stand_ins[-1]
    finally:
        for place, block in enumerate(originals):
            blocks[place] = block


PAD = 0  # any token will do: no position attends to it, and its own output is never read


@dataclass(frozen=True, slots=True)
class Rows:
    """Token rows padded to one length T."""

    ids: torch.Tensor
    """[B, T]"""
    mask: torch.Tensor
    """[B, T], 1 at tokens and 0 at padding"""

    @property
    def lengths(self) -> torch.Tensor:
        """[B] tokens of each row."""
        return self.mask.sum(1)


def make_rows(rows: Sequence[Sequence[int]], device: torch.device, *, left: bool = False) -> Rows:
    """Pad rows of tokens on the right (or left) to the longest, and to one token at least."""
    length = max(1, *(len(row) for row in rows))
    ids = torch.full((len(rows), length), PAD)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for place, row in enumerate(rows):
        span = slice(length - len(row), length) if left else slice(0, len(row))
        ids[place, span] = torch.tensor(row, dtype=torch.long)
        mask[place, span] = 1
    return Rows(ids.to(device), mask.to(device))


def last_hidden(loaded: LoadedModel, rows: Rows) -> torch.Tensor:
    """Return the final hidden states [B, T, d] (after the last norm) of right-padded rows, on their device.

    Raises ModelError where a row is longer than the model's positions.
    """
    loaded.check_room(rows.ids.shape[1])
    hidden: torch.Tensor = loaded.model.base_model(
        input_ids=rows.ids, attention_mask=rows.mask, use_cache=False
    ).last_hidden_state
    return hidden.to(rows.ids.device)


def kept_in(model: nn.Module, cache: Cache) -> dict[str, Cache]:
    """Return the argument that hands `cache` to a model's forward; transformers 5.24 has renamed it."""
    return {cache_argument(type(model)): cache}  # type: ignore[arg-type]  # a class has a hash


@kept
def cache_argument(kind: type[nn.Module]) -> str:
    """Return what a kind of model calls it; a signature takes a good part of a small model's forward to look up."""
    return "cache" if "cache" in inspect.signature(kind.forward).parameters else "past_key_values"


def prefill(loaded: LoadedModel, prefix: Rows, cache: Cache) -> None:
    """Let `cache` take the keys and values of left-padded rows, in all blocks that run."""
    model = loaded.model.base_model
    model(
        input_ids=prefix.ids,
        attention_mask=prefix.mask,
        position_ids=(prefix.mask.cumsum(1) - 1).clamp(min=0),
        use_cache=True,
        **kept_in(model, cache),
    )


def fill_cache(loaded: LoadedModel, prefix: Rows) -> DynamicCache:
    """Return the keys and values of all blocks for a left-padded `prefix`."""
    cache = DynamicCache(config=loaded.model.config)
    prefill(loaded, prefix, cache)
    return cache


def continue_hidden(loaded: LoadedModel, prefix: Rows, suffix: Rows, cache: Cache) -> torch.Tensor:
    """Return the final hidden states [B, T, d] of `suffix` after a left-padded `prefix` that `cache` holds.

    They are on the suffix's device. `cache` grows by the suffix; hand in a fresh one over the same tensors for each
    call.
    """
    steps = torch.arange(suffix.ids.shape[1], device=suffix.ids.device)
    model = loaded.model.base_model
    hidden: torch.Tensor = model(
        input_ids=suffix.ids,
        attention_mask=torch.cat([prefix.mask, suffix.mask], dim=1),
        position_ids=prefix.lengths[:, None] + steps,
        use_cache=True,
        **kept_in(model, cache),
    ).last_hidden_state
    return hidden.to(suffix.ids.device)


def head_logits(loaded: LoadedModel, hidden: torch.Tensor) -> torch.Tensor:
    """Return next-token logits [n, V] in float32 of final hidden states [n, d], on the head's device."""
    logits: torch.Tensor = loaded.model.get_output_embeddings()(hidden).float()
    # Gemma 2 and 3 bound their logits behind the head.
    cap: float | None = getattr(loaded.model.config, "final_logit_softcapping", None)
    if cap is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits


def head_log_probs(loaded: LoadedModel, hidden: torch.Tensor) -> torch.Tensor:
    """Return next-token log-probabilities [n, V] in float32 of final hidden states [n, d], on the head's device."""
    return torch.log_softmax(head_logits(loaded, hidden), dim=-1)


def check_numbers(loaded: LoadedModel, log_probs: torch.Tensor) -> None:
    """Raise ModelError where a model gives no numbers, as one whose hidden states outgrow its dtype does."""
    if log_probs.isnan().any():
        dtype = str(loaded.model.dtype).removeprefix("torch.")
        hint = "use --dtype bfloat16 or float32" if dtype == "float16" else "its weights are of no use"
        raise ModelError(f"{loaded.source} gives no numbers in {dtype} (NaN): {hint}")


def batches_by_length(
    lengths: Sequence[int], token_budget: int, prefix: int = 0, enough: float = math.inf
) -> Iterator[list[int]]:
    """Yield indices, long rows first, in batches of at most `token_budget` padded tokens (one row at least).

    `prefix` tokens stand before each row. A batch with `enough` tokens is not filled up with shorter rows.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if batch:
            longest = lengths[batch[0]]
            full = (prefix + longest) * (len(batch) + 1) > token_budget
            if full or (lengths[place] < longest and longest * len(batch) >= enough):
                yield batch
                batch = []
        batch.append(place)
    if batch:
        yield batch
