"""Sums of k k^T over tokens (Eqn. 15): symmetric, so that only the blocks on and above the diagonal are summed.

What float32 does to such a sum is not small: a layer's covariance may have eigenvalues a hundred million times
apart (practice model, layer 2), and rounding then takes its definiteness. So:

- On a CPU the products themselves are in float64. Over the upper blocks alone they cost what a whole float32 product
  costs, or half as much again, and less than folding small float32 products often would.
- On an accelerator products are summed in float32 (16-bit keys multiply there without rounding) and folded into
  float64 every so many tokens. The float64 sums lie on the device where they leave half of its free memory to the
  passes, else on the CPU: folding is rare, and the move is short beside the products of so many tokens.

Text packed for the covariance: documents joined into one run of tokens, cut into rows of equal length.
"""

import hashlib
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from kbsync.models import ALONE, LoadedModel, Team

MOST_CHARACTERS = 1_000_000
MOST_DOCUMENTS = 1024


@dataclass(frozen=True, slots=True)
class PackedText:
    """Token rows of one length; the last may be shorter."""

    ids: torch.Tensor
    """[n] int32, all tokens in order"""
    length: int
    """tokens of a row"""
    sha256: str
    """of the documents that were read: the same text has the same hash, whatever file it comes from"""

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def row_count(self) -> int:
        """Rows, the short last one with them."""
        return -(-self.tokens // self.length)

    def batch(self, first: int, budget: int) -> torch.Tensor:
        """Return rows from `first` on as [B, T] in int64: at most `budget` tokens, but one row at least.

        A short last row comes alone, so that nothing is padded.
        """
        full = self.tokens // self.length
        if first >= full:
            return self.ids[None, full * self.length :].long()
        last = min(full, first + max(1, budget // self.length))
        return self.ids[first * self.length : last * self.length].view(-1, self.length).long()


def pack_text(loaded: LoadedModel, documents: Iterable[str], length: int, wanted: int) -> PackedText:
    """Read `documents` until there are `wanted` tokens, and pack them in rows of `length`.

    Each document is tokenized as the model's tokenizer does it; the end-of-text token, where there is one, stands
    between two documents. Space around a document and blank ones do not count. The last document is cut where the
    tokens suffice, and none after it is read, but for a few that are tokenized together.
    """
    end = loaded.tokenizer.eos_token_id
    ids, digest = array("i"), hashlib.sha256()
    texts = (text for text in map(str.strip, documents) if text)
    while len(ids) < wanted and (some := take(texts, 2 * (wanted - len(ids)))):
        for text, row in zip(some, loaded.tokenizer(some, verbose=False)["input_ids"], strict=True):
            digest.update(text.encode() + b"\0")
            if ids and end is not None and row and end not in (ids[-1], row[0]):
                ids.append(end)
            ids.extend(row)
            if len(ids) >= wanted:
                break
    kept = torch.tensor(ids[:wanted], dtype=torch.int32)
    return PackedText(kept, length, digest.hexdigest())


def take(texts: Iterator[str], characters: int) -> list[str]:
    """Return the next texts, until they have this many characters; none where there are no more."""
    some: list[str] = []
    left = min(characters, MOST_CHARACTERS)
    while left > 0 and len(some) < MOST_DOCUMENTS:
        text = next(texts, None)
        if text is None:
            break
        some.append(text)
        left -= len(text)
    return some


FLOAT64_DEVICES = {"cpu"}
"""kinds of device whose products are in float64"""
PROBES = 16
MOST_SNAPSHOTS = 16


def blocks(m: int) -> Iterator[tuple[slice, slice]]:
    """Yield (rows, columns) of the blocks that cover the diagonal and what lies above it."""
    size = max(256, m // 8)
    for start in range(0, m, size):
        yield slice(start, min(start + size, m)), slice(start, m)


def pack_triangle(matrix: torch.Tensor) -> torch.Tensor:
    """Return the upper triangle of a symmetric matrix [m, m], row by row, as a vector [m (m + 1) / 2]."""
    return torch.cat([matrix[row, row:] for row in range(len(matrix))])


def unpack_triangle(packed: torch.Tensor) -> torch.Tensor:
    """Return the symmetric matrix [m, m] whose upper triangle is `packed`."""
    m = (math.isqrt(8 * len(packed) + 1) - 1) // 2
    matrix = packed.new_empty(m, m)
    for row, values in enumerate(packed.split(list(range(m, 0, -1)))):
        matrix[row, row:] = values
        matrix[row:, row] = values
    return matrix


class LayerSum:
    """The sum of k k^T of one layer. Keys that were seen count from `commit` on; `drop` forgets those before it."""

    def __init__(self, m: int, layers: int) -> None:
        self.m, self.layers = m, layers
        self.total: torch.Tensor | None = None
        """[m, m] float64, right on and above the diagonal blocks"""
        self.recent: torch.Tensor | None = None
        """[m, m] float32: since the last commit, on an accelerator"""
        self.waiting: list[torch.Tensor] = []
        """keys since the last commit, on a CPU"""

    def see(self, keys: torch.Tensor) -> None:
        """Take keys [..., m], where they lie."""
        keys = keys.detach().reshape(-1, self.m)
        if keys.device.type in FLOAT64_DEVICES:
            self.waiting.append(keys)
            return
        if self.recent is None:
            self.recent = torch.zeros(self.m, self.m, device=keys.device)
        exact = keys.dtype != torch.float32 and multiplies_exactly(keys.device, keys.dtype)
        keys = keys if exact else keys.float()
        for rows, columns in blocks(self.m):
            if exact:
                self.recent[rows, columns].add_(torch.mm(keys[:, rows].T, keys[:, columns], out_dtype=torch.float32))
            else:
                self.recent[rows, columns].addmm_(keys[:, rows].T, keys[:, columns])

    def commit(self) -> None:
        """Add what was seen since the last commit."""
        if self.total is None:
            seen = self.recent if self.recent is not None else torch.empty(0, self.m)
            self.total = torch.zeros(self.m, self.m, dtype=torch.float64, device=home_of(seen, self.layers))
        for keys in self.waiting:
            wide = keys.double()
            for rows, columns in blocks(self.m):
                self.total[rows, columns].addmm_(wide[:, rows].T, wide[:, columns])
        if self.recent is not None:
            for rows, columns in blocks(self.m):
                self.total[rows, columns].add_(self.recent[rows, columns].to(self.total.device))
        self.drop()

    def matrix(self) -> torch.Tensor:
        """Return the committed sum [m, m], whole, in float64."""
        if self.total is None:
            return torch.zeros(self.m, self.m, dtype=torch.float64)
        return self.total.triu() + self.total.triu(1).T

    def drop(self) -> None:
        """Forget what was seen since the last commit."""
        self.waiting = []
        if self.recent is not None:
            self.recent.zero_()

    def times(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the committed sum times `vectors` [m, k], on the CPU."""
        assert self.total is not None
        given = vectors.to(self.total.device)
        product = torch.zeros_like(given)
        for rows, columns in blocks(self.m):
            block = self.total[rows, columns]
            product[rows] += block @ given[columns]
            beyond = rows.stop - rows.start
            product[rows.stop :] += block[:, beyond:].T @ given[rows]
        return product.cpu()


@cache
def multiplies_exactly(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether the device multiplies 16-bit matrices into float32 (products of 16-bit numbers are exact there)."""
    trial = torch.zeros(16, 16, device=device, dtype=dtype)
    try:
        torch.mm(trial, trial, out_dtype=torch.float32)
    except (RuntimeError, TypeError, NotImplementedError):
        return False
    return True


def home_of(seen: torch.Tensor, layers: int) -> torch.device:
    """Return where the float64 sum of one of `layers` goes, `seen` being what it is made of."""
    if seen.device.type != "cuda":
        return torch.device("cpu")
    device, m = seen.device, seen.shape[-1]
    free, whole = torch.cuda.mem_get_info(device)
    allocated = torch.cuda.memory_allocated(device)
    unused = torch.cuda.memory_reserved(device) - allocated
    allowed = int(whole * torch.cuda.get_per_process_memory_fraction(device)) - allocated
    return device if 2 * layers * 8 * m * m < min(free + unused, allowed) else torch.device("cpu")


class MomentSums:
    """The sums of several layers over the rows read so far, with what is needed to go on from here.

    How far the mean moves is told without a second matrix: with a fixed Gaussian V [m, 16], |A|_F^2 is the mean of
    |A v|^2, so it is enough to keep S V at some of the commits.
    """

    def __init__(self, widths: Mapping[int, int]) -> None:
        self.sums = {layer: LayerSum(m, len(widths)) for layer, m in widths.items()}
        self.rows = 0
        """committed rows"""
        self.tokens = 0
        """committed tokens"""
        self.commits = 0
        self.stride = 1
        """commits from one snapshot to the next"""
        self.snapshots: list[tuple[int, dict[int, torch.Tensor]]] = []
        """(tokens, S V of each layer), [m, 16] float64"""
        self.change: dict[int, float] = {}
        """|C_n - C_(n/2)|_F / |C_n|_F of each layer, estimated; empty before there is a half"""

    def commit(self, rows: int, tokens: int, team: Team = ALONE) -> None:
        """Let the keys that were seen count: of `rows` rows with `tokens` tokens, the team's, since the last commit."""
        for layer_sum in self.sums.values():
            layer_sum.commit()
        self.rows, self.tokens, self.commits = self.rows + rows, self.tokens + tokens, self.commits + 1
        now = {layer: team.sum(layer_sum.times(probes(layer_sum.m))) for layer, layer_sum in self.sums.items()}
        then, before = min(self.snapshots, key=lambda snapshot: abs(2 * snapshot[0] - self.tokens), default=(0, now))
        if 0 < 3 * then <= 2 * self.tokens:
            self.change = {
                layer: float((value / self.tokens - before[layer] / then).norm() / (value / self.tokens).norm())
                for layer, value in now.items()
            }
        if self.commits % self.stride == 0:
            self.snapshots.append((self.tokens, now))
        if len(self.snapshots) > MOST_SNAPSHOTS:
            self.stride *= 2
            self.snapshots = self.snapshots[1::2]

    def pool(self, team: Team) -> None:
        """Bring the committed sums of all processes to the leader; the others go on from zero."""
        if team.size == 1:
            return
        for layer_sum in self.sums.values():
            assert layer_sum.total is not None
            pooled = team.sum(layer_sum.total)
            layer_sum.total.copy_(pooled if team.leads else torch.zeros_like(pooled))

    def drop(self) -> None:
        """Forget what was seen since the last commit."""
        for layer_sum in self.sums.values():
            layer_sum.drop()

    def covariance(self, layer: int) -> torch.Tensor:
        """Return the upper triangle of C, [m (m + 1) / 2] in float64 on the CPU."""
        total = self.sums[layer].total
        assert total is not None
        return pack_triangle(total).cpu() / self.tokens

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the committed state as tensors, for `restore`."""
        counts = [self.rows, self.tokens, self.commits, self.stride, *(tokens for tokens, _ in self.snapshots)]
        state = {"counts": torch.tensor(counts)}
        for layer, layer_sum in self.sums.items():
            assert layer_sum.total is not None
            state[f"sum.{layer}"] = pack_triangle(layer_sum.total).cpu()
            state[f"snapshots.{layer}"] = torch.stack([product[layer] for _, product in self.snapshots])
        return state

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from what `tensors` gave."""
        self.rows, self.tokens, self.commits, self.stride, *tokens = state["counts"].tolist()
        for layer, layer_sum in self.sums.items():
            layer_sum.total = unpack_triangle(state[f"sum.{layer}"])
        kept: Sequence[dict[int, torch.Tensor]] = [
            {layer: state[f"snapshots.{layer}"][place] for layer in self.sums} for place in range(len(tokens))
        ]
        self.snapshots = list(zip(tokens, kept, strict=True))


def probes(m: int) -> torch.Tensor:
    """Return V [m, 16] in float64, the same each time."""
    return torch.randn(m, PROBES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
