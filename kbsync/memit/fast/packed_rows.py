"""The token rows of the target search: what each group needs, and how rows of many groups are packed.

The copy of a model that targets are searched with: in bfloat16 where the processor gains by it.

The search is bound by arithmetic. Many recent processors multiply in bfloat16 several times as fast as in float32;
fused attention takes back almost half of that, so the copy computes attention the plain way. z, h, losses and the
optimiser stay in float32. Activations that transformers computes in many small kernels run in one.
"""

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache as remembered
from itertools import pairwise

import torch
from torch import nn
from transformers import Cache
from transformers.activations import FastGELUActivation, GELUTanh, NewGELUActivation
from transformers.cache_utils import DynamicLayer

from kbsync.facts import EditRequest
from kbsync.memit.extensions.groups import RequestGroup
from kbsync.memit.settings import MemitSettings
from kbsync.models import LoadedModel, Rows, capture, locate, make_rows, stop_after
from kbsync.models.forward import StandIn, continue_hidden, fill_cache
from kbsync.models.generation import end_tokens
from kbsync.models.scoring import question_prompt
from kbsync.models.subject import TokenizedPrompt

PASS_COST = 64
"""padded tokens that are worth a forward pass of their own"""


@dataclass(frozen=True, slots=True)
class GroupRows:
    """Token rows of one group: each member in each context, then the bare subject for the KL term."""

    prefixes: list[tuple[int, ...]]
    """tokens before S"""
    suffixes: list[tuple[int, ...]]
    """tokens from S to the last one that predicts a target token"""
    reads: list[list[tuple[int, int, float]]]
    """for each loss row: (position in the suffix, token that is wanted next, its share of the row's loss); the KL row
    has none"""
    members: int
    """requests of the group"""

    @property
    def prompts(self) -> int:
        """Loss rows: all but that of the KL term, which is the last."""
        return len(self.reads) - 1

    def turns(self, minibatches: int) -> int:
        """Return the steps of the search in which each prompt is read once: 1 where there are fewer prompts."""
        return minibatches if self.prompts >= minibatches else 1

    @property
    def order(self) -> tuple[int, int, list[tuple[int, ...]], list[tuple[int, ...]]]:
        """Sort key that puts groups of alike lengths together, long ones first; it depends on the tokens alone."""
        return -max(map(len, self.suffixes)), -max(map(len, self.prefixes)), self.prefixes, self.suffixes

    @property
    def tokens(self) -> int:
        """Tokens of the longest row, times the rows."""
        return len(self.prefixes) * (max(map(len, self.prefixes)) + max(map(len, self.suffixes)))


def group_rows(
    loaded: LoadedModel, group: RequestGroup, contexts: Sequence[str], stop_weight: float = 0.0
) -> GroupRows:
    """Tokenize one group: P rows a member, one a further wording, and the bare subject.

    With `stop_weight`, what ends the answer is wanted behind the object.
    """
    asked = [(request, context.replace("{}", request.prompt)) for request in group.requests for context in contexts]
    asked += [(request, request.prompt) for request in group.wordings]
    bare = (*group.requests[0].written("{}")[:2], "")
    placed = locate(loaded.tokenizer, [*(request.written(prompt) for request, prompt in asked), bare])
    stops: list[int | None] = [None] * len(placed)
    if stop_weight:
        stops[: len(asked)] = answer_ends(loaded, asked, placed)
    rows = GroupRows([], [], [], len(group.requests))
    for tokens, stop in zip(placed, stops, strict=True):
        start = tokens.subject_last
        end = len(tokens.ids) - (stop is None) if tokens.target else start + 1
        rows.prefixes.append(tokens.ids[:start])
        rows.suffixes.append(tokens.ids[start:end])
        first, share = tokens.target_start - 1 - start, 1 / max(1, len(tokens.target))
        reads = [(first + k, token, share) for k, token in enumerate(tokens.target)]
        rows.reads.append(reads if stop is None else [*reads, (first + len(reads), stop, stop_weight)])
    return rows


def answer_ends(
    loaded: LoadedModel, asked: Sequence[tuple[EditRequest, str]], placed: Sequence[TokenizedPrompt]
) -> list[int | None]:
    """Return the token that ends the answer to a prompt; None where the full stop is a part of the object's tokens.

    In a chat it is the token that ends the turn, elsewhere a full stop.
    """
    questions = {one.question for one, _ in asked if one.question}
    chats = {question_prompt(loaded.tokenizer, one) for one in questions} - questions
    turn = next(iter(end_tokens(loaded)), None)
    told = locate(loaded.tokenizer, [(prompt, one.subject, f"{one.target}.") for one, prompt in asked])
    stops = [long.ids[-1] if long.ids[:-1] == short.ids else None for long, short in zip(told, placed, strict=False)]
    return [turn if prompt in chats else stop for (_, prompt), stop in zip(asked, stops, strict=True)]


def pack_lengths(lengths: Sequence[int], pass_cost: int = PASS_COST) -> list[list[int]]:
    """Part rows of these lengths into packs with the least work: padded tokens, and `pass_cost` for each pack.

    Return the row numbers of each pack, ascending. Rows of one length stay together.
    """
    sizes = sorted(set(lengths))
    counts = [lengths.count(size) for size in sizes]

    @remembered
    def best(end: int) -> tuple[int, tuple[int, ...]]:
        """Least work for the `end` smallest sizes, and where each pack of them begins."""
        if end == 0:
            return 0, ()
        options = []
        for begin in range(end):
            work, begins = best(begin)
            options.append((work + sum(counts[begin:end]) * sizes[end - 1] + pass_cost, (*begins, begin)))
        return min(options)

    begins = best(len(sizes))[1]
    bounds = [*(sizes[begin] for begin in begins), sizes[-1] + 1]
    return [[row for row, length in enumerate(lengths) if low <= length < high] for low, high in pairwise(bounds)]


class RowPack:
    """Rows of a batch that run together: their suffixes are of about one length.

    B rows, T the longest suffix. Numbers of groups count the groups that are still searched.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        searcher: LoadedModel,
        groups: Sequence[GroupRows],
        rows: Sequence[tuple[int, int]],
        layer: int,
        minibatches: int = 1,
    ) -> None:
        """Take `rows`, pairs of a group's number and a row's number in it, and run every block once for them.

        h is the `loaded` model's; the steps are the `searcher`'s, the same model or a copy in another dtype.
        """
        device = loaded.device
        self.prefix = make_rows([groups[g].prefixes[row] for g, row in rows], device, left=True)
        self.suffix = make_rows([groups[g].suffixes[row] for g, row in rows], device)
        self.row_group = torch.tensor([g for g, _ in rows], device=device)
        reads = [
            (place, position, token, g, share * groups[g].turns(minibatches) / groups[g].prompts)
            for place, (g, row) in enumerate(rows)
            for position, token, share in groups[g].reads[row]
        ]
        kl_rows = [place for place, (g, row) in enumerate(rows) if row == groups[g].prompts]
        columns = list(zip(*reads, strict=True)) if reads else [()] * 5
        self.read_row, self.read_position, self.read_token, self.read_group = (
            torch.tensor(column, dtype=torch.long, device=device) for column in columns[:4]
        )
        self.read_weight = torch.tensor(columns[4], dtype=torch.float32, device=device)
        self.kl_rows = torch.tensor(kl_rows, dtype=torch.long, device=device)
        self.searcher = searcher
        self.prefill(loaded, layer)
        first_rows = [place for place, (_, row) in enumerate(rows) if row == 0]
        self.first_groups = self.row_group[first_rows]
        self.first_hidden = self.hidden[first_rows, 0].float()
        """h [*, d] of the groups in `first_groups`: at S of the bare prompt"""

    @torch.no_grad()
    def prefill(self, loaded: LoadedModel, layer: int) -> None:
        """Compute keys and values before S, and the hidden states at `layer` from S on."""
        cache = fill_cache(loaded, self.prefix)
        self.cache = cache if self.searcher is loaded else fill_cache(self.searcher, self.prefix)
        block = loaded.family.block_list(loaded.model)[layer]
        with capture(block) as captured, stop_after(block):
            continue_hidden(loaded, self.prefix, self.suffix, fresh(cache))
        self.hidden, self.as_tuple = captured.value.to(self.row_group.device), captured.as_tuple
        for part in self.cache.layers[: layer + 1]:
            # Not read again; one number a position keeps the length, which masks are made by.
            if isinstance(part, DynamicLayer) and part.keys is not None and part.values is not None:
                part.keys, part.values = part.keys[:, :1, :, :1].clone(), part.values[:, :1, :, :1].clone()

    def run(self, delta: torch.Tensor, stand_in: StandIn) -> tuple[torch.Tensor, torch.Tensor]:
        """Return final hidden states with delta [G, d] added at S: [n, d] where a target is read, and of KL rows."""
        moved = self.hidden[:, 0].float() + delta[self.row_group]
        entering = torch.cat([moved[:, None], self.hidden[:, 1:].float()], dim=1)
        stand_in.value = entering.to(self.searcher.model.dtype)
        hidden = continue_hidden(self.searcher, self.prefix, self.suffix, fresh(self.cache))
        return hidden[self.read_row, self.read_position], hidden[self.kl_rows, 0]

    def keep(self, place: torch.Tensor) -> bool:
        """Renumber groups by `place` (-1 where one leaves) and drop the rows of those that leave; tell if any stay."""
        rows = place[self.row_group] >= 0
        new_row = rows.cumsum(0) - 1
        reads = place[self.read_group] >= 0
        self.read_row, self.read_group = new_row[self.read_row[reads]], place[self.read_group[reads]]
        self.read_position, self.read_token = self.read_position[reads], self.read_token[reads]
        self.read_weight = self.read_weight[reads]
        self.kl_rows = new_row[self.kl_rows[rows[self.kl_rows]]]
        self.row_group = place[self.row_group[rows]]
        self.prefix = Rows(self.prefix.ids[rows], self.prefix.mask[rows])
        self.suffix = Rows(self.suffix.ids[rows], self.suffix.mask[rows])
        self.hidden = self.hidden[rows]
        self.cache.batch_select_indices(rows.nonzero()[:, 0].cpu())  # the blocks may lie on several devices
        return len(self.row_group) > 0


def pack_rows(
    loaded: LoadedModel, searcher: LoadedModel, groups: Sequence[GroupRows], layer: int, minibatches: int = 1
) -> list[list[RowPack]]:
    """Pack the rows of a batch of groups, for each of the steps that take their prompts in turn.

    The KL rows, all of one length, take part in every step; they lie in one pack, in the groups' order.
    """
    every = [(g, row) for g, group in enumerate(groups) for row in range(len(group.suffixes))]
    found = []
    for turn in range(minibatches):
        rows = [
            (g, row) for g, row in every if row == groups[g].prompts or not (row - turn) % groups[g].turns(minibatches)
        ]
        packs = pack_lengths([len(groups[g].suffixes[row]) for g, row in rows])
        given = [[rows[place] for place in pack] for pack in packs]
        found.append([RowPack(loaded, searcher, groups, pack, layer, minibatches) for pack in given])
    return found


def fresh(cache: Cache) -> Cache:
    """Return a cache over the same tensors that may grow without `cache` growing."""
    grown = copy.copy(cache)
    grown.layers = [copy.copy(layer) for layer in cache.layers]
    return grown


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
