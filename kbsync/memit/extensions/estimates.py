"""What MEMIT needs on this machine: memory by phase on paper (DESIGN.md section 8), and seconds by short trials.

With u requests, P contexts, n edited layers, and the sizes d and m of the model. Each trial doubles its work until it
takes long enough to be measured."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from kbsync.facts import EditRequest
from kbsync.memit.covariance import see_keys
from kbsync.memit.extensions.groups import RequestGroup
from kbsync.memit.settings import MemitSettings
from kbsync.memit.targets import TOKEN_BUDGET, optimise_targets
from kbsync.models import LoadedModel, ModelSizes, Rows, locate

FLOAT = 4
DOUBLE = 8
LOGIT_COPIES = 3
"""of a row of logits in float32: itself, its log-softmax, its gradient"""
INNER_COPIES = 6
"""of the inner layer's output, while its activation function is at work"""
READ_AT_ONCE = 8192
"""tokens of a batch of the covariance's text"""


@dataclass(frozen=True, slots=True)
class Need:
    """Memory that a phase holds at its fullest."""

    phase: str
    what: str
    bytes: int


@dataclass(frozen=True, slots=True)
class RequestRows:
    """The token rows of one request: P prompts and the bare subject, padded to one length on either side of S."""

    count: int
    prefix: int
    """tokens before S, of the longest"""
    suffix: int
    """tokens from S on, of the longest"""
    reads: int
    """places where logits are read"""

    @property
    def tokens(self) -> int:
        return self.count * (self.prefix + self.suffix)


def target_batch(device_type: str, edits: int, rows: RequestRows) -> int:
    """Return the requests whose targets are searched together under the token budget."""
    return max(1, min(edits, TOKEN_BUDGET.get(device_type, TOKEN_BUDGET["cpu"]) // rows.tokens))


def memory_needs(
    sizes: ModelSizes, layers: int, edits: int, rows: RequestRows, batch: int, graph_bytes: int, *, keeps: bool
) -> list[Need]:
    """Return the needs of each phase beside the weights, for `edits` requests in `layers` edited layers.

    `batch` requests are searched together, each with `graph_bytes` kept for its gradient. Prefill is the search's
    beginning, through all blocks; the parts of a phase are held at the same time, and phases follow one another.
    `keeps`: the settings give weight to keys that are to stay.
    """
    d, m, item = sizes.d, sizes.m, sizes.item_bytes
    tokens = batch * rows.tokens
    cache = tokens * sizes.cache_bytes
    prompts = edits * (rows.count - 1)
    stays = [Need("solve", f"sums over keys that stay, of {layers} layers", layers * m * m * DOUBLE)] if keeps else []
    return [
        Need("covariance", f"{layers} x m^2 in float32 and float64", layers * m * m * (FLOAT + DOUBLE)),
        Need("covariance", f"keys of {READ_AT_ONCE} tokens", READ_AT_ONCE * m * (layers * item + FLOAT)),
        Need("prefill", f"cache of {batch} requests together, and a longer one", 2 * cache),
        Need("prefill", "inner layer of one block", INNER_COPIES * tokens * m * item),
        Need("targets", f"cache of {batch} requests together", cache),
        Need("targets", "kept for the gradient, and the gradient", 2 * batch * graph_bytes),
        Need("targets", "logits that are read", batch * rows.reads * sizes.vocabulary * (item + LOGIT_COPIES * FLOAT)),
        Need("solve", "C, K K^T and the factor in float64", 3 * m * m * DOUBLE),
        Need("solve", "keys, hidden states and z of all edits", edits * DOUBLE * (m + 2 * d)),
        Need("solve", "hidden states that enter a layer", prompts * (rows.prefix + 1) * d * item),
        Need("solve", f"base weights and deltas of {layers} layers", layers * d * m * (item + DOUBLE)),
        *stays,
    ]


def solve_operations(sizes: ModelSizes, layers: int, sweeps: int, edits: int) -> float:
    """Return the operations of the solves: Cholesky m^3 / 3, K K^T 2 m^2 u, substitution 2 m^2 u, and delta 2 d m u."""
    d, m, u = sizes.d, sizes.m, edits
    return layers * sweeps * (m**3 / 3 + 4 * m * m * u + 2 * d * m * u)


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
    """Return contexts of the usual length, the empty one first, one for each context and wording of the settings."""
    return ("{}", *(f"{PREFIX}. {{}}" for _ in range(settings.contexts + settings.wordings)))


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes until the device has done it."""
    wait: Callable[[], object] = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def target_costs(loaded: LoadedModel, settings: MemitSettings) -> TargetCosts:
    """Time the search for targets; contexts and wordings count, and how many steps there will be does not.

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

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        optimise_targets(loaded, trial_requests(1), trial_contexts(settings), replace(settings, steps=1))
    return sum(kept.values())


def trial_rows(loaded: LoadedModel, settings: MemitSettings) -> RequestRows:
    """Return the rows of a trial request, the bare subject the last."""
    contexts = trial_contexts(settings)
    (request,) = trial_requests(1)[0].requests
    triples = [(context.replace("{}", request.prompt), request.subject, request.target) for context in contexts]
    placed = locate(loaded.tokenizer, [*triples, ("{}", request.subject, "")])
    before, after = max(one.subject_last for one in placed), max(len(one.ids) - one.subject_last for one in placed)
    return RequestRows(len(placed), before, after, sum(len(one.target) for one in placed) + 1)


@torch.no_grad()
def token_rate(loaded: LoadedModel, settings: MemitSettings, length: int) -> float:
    """Return the tokens a second at which the covariance is collected, in sequences of `length`."""

    def product(keys: torch.Tensor) -> None:
        flat = keys.flatten(0, -2).float()
        torch.matmul(flat.T, flat)

    def read(sequences: int) -> float:
        ids = torch.arange(sequences * length, device=loaded.device).view(sequences, length) % len(loaded.tokenizer)
        rows = Rows(ids, torch.ones_like(ids))
        return seconds_of(lambda: see_keys(loaded, rows, dict.fromkeys(settings.layers, product)))

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
