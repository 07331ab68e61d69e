"""The copy of a model that targets are searched with: in bfloat16 where the processor gains by it.

The search is bound by arithmetic. Many recent processors multiply in bfloat16 several times as fast as in float32;
fused attention takes back almost half of that, so the copy computes attention the plain way. z, h, losses and the
optimiser stay in float32. Activations that transformers computes in many small kernels run in one."""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn
from transformers.activations import FastGELUActivation, GELUTanh, NewGELUActivation

from kbsync.memit.settings import MemitSettings
from kbsync.models import LoadedModel

ENOUGH = 1.5
"""times as fast that bfloat16 has to be"""
TOKENS, REPEATS = 1024, 5


def search_model(loaded: LoadedModel, settings: MemitSettings) -> LoadedModel:
    """Return the model to search targets with: `loaded` itself, or a copy of it in bfloat16 (`search_dtype`)."""
    wanted = settings.search_dtype
    if wanted == "auto":
        parts = [*loaded.model.parameters()]
        able = all(part.device.type == "cpu" and part.dtype == torch.float32 for part in parts)
        wanted = "bfloat16" if able and bfloat16_gain(loaded) >= ENOUGH else "float32"
    if wanted == "float32" or loaded.model.dtype == torch.bfloat16:
        return loaded
    model = copy.deepcopy(loaded.model).to(torch.bfloat16)  # type: ignore[arg-type]
    model.set_attn_implementation("eager")
    return replace(loaded, model=model)


def bfloat16_gain(loaded: LoadedModel) -> float:
    """Return how many times as fast a product of a down projection's size is in bfloat16 as in float32."""
    weight = loaded.weight(0).detach()
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(TOKENS, weight.shape[1], dtype=dtype), weight.cpu().to(dtype)
        torch.nn.functional.linear(left, right)
        best = float("inf")
        for _ in range(REPEATS):
            began = time.perf_counter()
            torch.nn.functional.linear(left, right)
            best = min(best, time.perf_counter() - began)
        seconds[dtype] = best
    return seconds[torch.float32] / seconds[torch.bfloat16]


WRITTEN_OUT = (NewGELUActivation, FastGELUActivation)
"""GELU's tanh form in seven operations, each of which keeps a tensor for the backward pass"""


@contextmanager
def fused_activations(model: nn.Module) -> Iterator[None]:
    """Let every tanh-form GELU of `model` run as one kernel; the modules are put back on leaving.

    The function is the same, rounded once in place of seven times.
    """
    fused = GELUTanh()
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, WRITTEN_OUT)
    ]
    try:
        for parent, name, _ in found:
            setattr(parent, name, fused)
        yield
    finally:
        for parent, name, child in found:
            setattr(parent, name, child)
