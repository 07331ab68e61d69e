"""Short trials: how fast this machine finds targets, reads text and solves, and what a target's search holds in memory.

Each trial doubles its work until it takes long enough to be measured.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch

from kbsync.facts import EditRequest
from kbsync.memit.extensions.groups import RequestGroup
from kbsync.memit.settings import MemitSettings
from kbsync.memit.targets import optimise_targets
from kbsync.models import LoadedModel, Rows, capture, last_hidden, locate, stop_after

__all__ = ["TargetCosts", "graph_bytes", "row_tokens", "solve_rate", "target_costs", "token_rate"]

LONG_ENOUGH = 0.3
"""seconds; three trials, two of them with a run before it, are so about a second and a half"""
MOST_GROUPS = 64
MOST_TOKENS = 65536
STEPS = 3
PREFIX = "After a long day, they sat down and told us more"
"""eleven words, as sampled prefixes have"""


@dataclass(frozen=True, slots=True)
class TargetCosts:
    """Seconds that one request's target takes: before its steps, and for each of them."""

    start: float
    step: float

    def seconds(self, steps: int) -> float:
        """Return the seconds of one request at `steps` evaluations of its loss, none stopping early."""
        return self.start + self.step * (steps - 1)


def trial_requests(count: int) -> list[RequestGroup]:
    """Return synthetic requests of ordinary lengths, each a group."""
    requests = [
        EditRequest("trial", f"Maria Vasquez {n}", "The mother tongue of {} is", "French") for n in range(count)
    ]
    return [RequestGroup((request,)) for request in requests]


def trial_contexts(settings: MemitSettings) -> tuple[str, ...]:
    """Return contexts of the usual length, the empty one first, as many as the settings ask for."""
    return ("{}", *(f"{PREFIX}. {{}}" for _ in range(settings.contexts)))


def synchronised() -> float:
    """Return the time once the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    began = synchronised()
    work()
    return synchronised() - began


def target_costs(loaded: LoadedModel, settings: MemitSettings) -> TargetCosts:
    """Time the search for targets; the contexts count, and how many steps there will be does not.

    Raises EditError where a loss is not finite.
    """
    contexts = trial_contexts(settings)

    def run(count: int, steps: int) -> float:
        few = replace(settings, steps=steps)
        return seconds_of(lambda: optimise_targets(loaded, trial_requests(count), contexts, few))

    run(1, 1)  # what a first run sets up is not paid again
    count = 1
    while (short := run(count, 1)) < LONG_ENOUGH / STEPS and count < MOST_GROUPS:
        count *= 2
    return TargetCosts(short / count, max(run(count, STEPS) - short, 0.0) / (STEPS - 1) / count)


def graph_bytes(loaded: LoadedModel, settings: MemitSettings) -> int:
    """Return what one step of one request's search keeps for its gradient, in bytes; weights are not counted."""
    weights = {weight.untyped_storage().data_ptr() for weight in loaded.model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def unpack(tensor: Any) -> Any:
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        optimise_targets(loaded, trial_requests(1), trial_contexts(settings), replace(settings, steps=1))
    return sum(kept.values())


def row_tokens(loaded: LoadedModel, settings: MemitSettings) -> list[tuple[int, int, int]]:
    """Return (tokens before S, from S on, target tokens) of a trial request's rows, the bare subject the last."""
    contexts = trial_contexts(settings)
    (request,) = trial_requests(1)[0].requests
    triples = [(context.replace("{}", request.prompt), request.subject, request.target) for context in contexts]
    placed = locate(loaded.tokenizer, [*triples, ("{}", request.subject, "")])
    return [(one.subject_last, len(one.ids) - one.subject_last, len(one.target)) for one in placed]


@torch.no_grad()
def token_rate(loaded: LoadedModel, settings: MemitSettings, length: int) -> float:
    """Return the tokens a second at which the covariance is collected, in sequences of `length`."""
    blocks = loaded.family.block_list(loaded.model)
    downs = [loaded.family.down_projection(loaded.model, layer) for layer in settings.layers]

    def read(sequences: int) -> float:
        return seconds_of(lambda: collect(sequences))

    def collect(sequences: int) -> None:
        ids = torch.arange(sequences * length, device=loaded.device).view(sequences, length) % len(loaded.tokenizer)
        with ExitStack() as stack:
            captured = [stack.enter_context(capture(down, inputs=True)) for down in downs]
            with stop_after(blocks[settings.layers[-1]]):
                last_hidden(loaded, Rows(ids, torch.ones_like(ids)))
        for one in captured:
            keys = one.value.flatten(0, 1).float()
            torch.matmul(keys.T, keys)

    read(1)
    sequences = 1
    while (taken := read(sequences)) < LONG_ENOUGH and 2 * sequences * length <= MOST_TOKENS:
        sequences *= 2
    return sequences * length / taken


def solve_rate(device: torch.device, m: int) -> float:
    """Return the operations a second of a Cholesky factorisation in float64, at `m` or as near as time allows.

    On the CPU where the device has no float64.
    """
    where = torch.device("cpu") if device.type == "mps" else device
    size = min(m, 256)
    while True:
        matrix = torch.eye(size, dtype=torch.float64, device=where) * size + 1
        torch.linalg.cholesky(matrix[:64, :64])
        taken = seconds_of(lambda matrix=matrix: torch.linalg.cholesky(matrix))  # type: ignore[misc]
        if taken >= LONG_ENOUGH or size == m:
            return size**3 / 3 / taken
        size = min(m, 2 * size)
