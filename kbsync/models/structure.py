"""Read a family that the table does not hold from a model's modules, and try whether what was read is right.

What the tries ask is what MEMIT needs: that the head gives the model's own logits, that blocks can be left out and
prefixes kept in a cache, and that the down projection's output is what the block adds to the hidden state.
"""

import dataclasses
import inspect
from contextlib import ExitStack

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from kbsync.errors import ModelError, foreign
from kbsync.models.family import Family
from kbsync.models.forward import (
    Rows,
    capture,
    continue_hidden,
    fill_cache,
    head_log_probs,
    last_hidden,
    make_rows,
    replace,
    resume,
)
from kbsync.models.loaded import LoadedModel

TOKENS, PREFIX = 6, 2
"""of the row that is tried, and of its part that is kept in a cache"""
TOLERANCE = {torch.float32: 1e-3}
"""relative difference that rounding explains"""
HALF_TOLERANCE = 0.05


def family_by_structure(model: nn.Module, config: object) -> Family:
    """Return what the modules tell: the list of blocks, and the last Linear or Conv1D of each block's MLP.

    Raises ModelError where there is no one list of blocks, or blocks differ or hold experts.
    """
    if any(name.split(".")[-1] == "experts" for name, _ in model.named_modules()):
        raise misfit(model, "its blocks hold experts: a fact has no single down projection to be written to")
    depth, width = getattr(config, "num_hidden_layers", None), getattr(config, "hidden_size", None)
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth and down_path(module[0], width)
    ]
    if len(lists) != 1:
        raise misfit(model, f"{len(lists)} lists of {depth} blocks with an MLP were found where one was expected")
    path, blocks = lists[0]
    downs = {down_path(block, width) for block in blocks}
    if len(downs) != 1 or (down := downs.pop()) is None:
        raise misfit(model, "its blocks differ from one another")
    is_conv = isinstance(blocks[0].get_submodule(down), Conv1D)
    return Family(f"{type(model).__name__}, read by its structure", path, down, "conv1d" if is_conv else "linear")


def down_path(block: nn.Module, width: int | None) -> str | None:
    """Return the path of a block's last projection to `width` dimensions outside its attention."""
    attention = [  # what is told which positions may be seen
        name
        for name, module in block.named_modules()
        if name and "attention_mask" in inspect.signature(module.forward).parameters
    ]
    outside = [
        name
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and width == (module.nf if isinstance(module, Conv1D) else module.out_features)
        and not any(f"{name}.".startswith(f"{path}.") for path in attention)
    ]
    return outside[-1] if outside else None


def misfit(model: nn.Module, reason: str) -> ModelError:
    """Return the error for a model whose structure does not fit."""
    return ModelError(f"{type(model).__name__} cannot be read by its structure: {reason}")


@torch.no_grad()
def settle(loaded: LoadedModel) -> LoadedModel:
    """Try a model whose family was read by its structure; return it with the norm behind its down projection, if any.

    A short row goes through the model in each way that MEMIT needs. Raises ModelError where one does not fit.
    """
    with foreign(lambda reason: misfit(loaded.model, f"a short row fails: {reason}")):
        difference = try_passes(loaded)
        settled = with_norm(loaded)
        added = adds_what_it_gives(settled)
    difference[f"what a block adds when {settled.family.down} gives more"] = added
    bound = TOLERANCE.get(loaded.model.dtype, HALF_TOLERANCE)
    for name, value in difference.items():
        if not value <= bound:
            raise misfit(loaded.model, f"{name} is off by {value:.2g} of its size")
    return settled


def sample(loaded: LoadedModel, begin: int = 0, end: int = TOKENS) -> Rows:
    """Return a part of a row of different tokens."""
    words = loaded.model.config.get_text_config().vocab_size
    return make_rows([[(place + 1) % words for place in range(begin, end)]], loaded.device)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return how far `found` is from `expected`, as a share of its size."""
    return float((found.float() - expected.float()).norm() / expected.float().norm())


def try_passes(loaded: LoadedModel) -> dict[str, float]:
    """Return how far the head's logits, the blocks above the first, and a suffix are from the whole forward."""
    rows, prefix, suffix = sample(loaded), sample(loaded, 0, PREFIX), sample(loaded, PREFIX)
    blocks = loaded.family.block_list(loaded.model)
    with capture(blocks[0]) as first:
        hidden = last_hidden(loaded, rows)
    logits = loaded.model(rows.ids).logits[0].float().log_softmax(-1)
    with resume(blocks, 0, first.as_tuple) as stand_in:
        stand_in.value = first.value
        resumed = last_hidden(loaded, rows)
    continued = continue_hidden(loaded, prefix, suffix, fill_cache(loaded, prefix))
    return {
        "the log-probability of its head": relative(head_log_probs(loaded, hidden[0]), logits),
        "a pass without the first block": relative(resumed, hidden),
        "a pass with the first tokens cached": relative(continued, hidden[:, PREFIX:]),
    }


def with_norm(loaded: LoadedModel) -> LoadedModel:
    """Return the model with its norm, if any: the child of a block that is given the down projection's output."""
    rows = sample(loaded)
    block, down = loaded.family.block_list(loaded.model)[0], loaded.family.down_projection(loaded.model, 0)
    norms = {name: module for name, module in block.named_children() if getattr(module, "weight", None) is not None}
    with ExitStack() as stack:
        given = {name: stack.enter_context(capture(norm, inputs=True)) for name, norm in norms.items()}
        output = stack.enter_context(capture(down))
        last_hidden(loaded, rows)
    for name, seen in given.items():
        if seen.value.shape == output.value.shape and torch.equal(seen.value, output.value):
            return dataclasses.replace(loaded, family=dataclasses.replace(loaded.family, post_norm=name))
    return loaded


def adds_what_it_gives(loaded: LoadedModel) -> float:
    """Return how far a block's output is from moving with its down projection's output (through the norm, if any)."""
    rows = sample(loaded)
    block, down = loaded.family.block_list(loaded.model)[0], loaded.family.down_projection(loaded.model, 0)
    norm = loaded.family.norm_behind(loaded.model, 0)
    with capture(block) as before, capture(down) as output:
        last_hidden(loaded, rows)
    v = output.by_row(rows.ids).clone()
    shift = torch.linspace(-1, 1, v.shape[-1], device=v.device, dtype=v.dtype) * v.std()
    with replace(down, lambda output: output + shift), capture(block) as after:
        last_hidden(loaded, rows)
    expected = shift.expand_as(v) if norm is None else rms_norm(norm, v + shift) - rms_norm(norm, v)
    return relative(after.value - before.value, expected)


def rms_norm(norm: nn.Module, v: torch.Tensor) -> torch.Tensor:
    """Return what an RMS norm with the gain of `norm` gives: MEMIT takes a norm behind the MLP to be one."""
    gain: torch.Tensor = norm(torch.ones_like(v))
    return gain * v / v.pow(2).mean(-1, keepdim=True).sqrt()
