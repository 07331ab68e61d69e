"""What MEMIT needs: memory by phase and operations of the solve, on paper (DESIGN.md section 8).

With u requests, P contexts, n edited layers, and the sizes d and m of the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kbsync.memit.targets import TOKEN_BUDGET
from kbsync.models import ModelSizes

__all__ = ["Need", "RequestRows", "memory_needs", "solve_operations", "target_batch"]

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

    @classmethod
    def of(cls, tokens: Sequence[tuple[int, int, int]]) -> "RequestRows":
        """Take (tokens before S, from S on, target tokens) of each row."""
        before, after, targets = zip(*tokens, strict=True)
        return cls(len(tokens), max(before), max(after), sum(targets) + 1)

    @property
    def tokens(self) -> int:
        """Padded tokens."""
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
