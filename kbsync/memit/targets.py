"""Target vectors z (Eqn. 16): a delta at the subject's last token, found by Adam for many requests together.

Causality makes the steps small without changing them. Blocks up to L do not depend on the delta: they run once,
and stand-ins give their output back. Positions before the subject's last token S do not depend on it either:
their keys and values are kept as a cache, and each step runs only positions S to the end in the blocks above L.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from transformers import Cache

from kbsync.errors import EditError
from kbsync.memit.groups import RequestGroup
from kbsync.memit.settings import MemitSettings
from kbsync.models import LoadedModel, Rows, capture, head_log_probs, locate, make_rows, resume
from kbsync.models.forward import continue_hidden, fill_cache

__all__ = ["EARLY_STOP_LOSS", "Target", "optimise_targets"]

EARLY_STOP_LOSS = 0.05
"""a group whose whole loss is under this is done"""
BETAS = (0.9, 0.999)
EPSILON = 1e-8
TOKEN_BUDGET = {"cpu": 8192, "cuda": 65536, "mps": 16384}
"""padded tokens of one batch; the processor's cache counts too, so more is not faster"""


@dataclass(frozen=True, slots=True)
class Target:
    """A group's target vector z at layer L, [d] in float32 on the CPU, and how the search went."""

    z: torch.Tensor
    losses: tuple[float, ...]
    """whole loss at each evaluation"""


@dataclass(frozen=True, slots=True)
class GroupRows:
    """Token rows of one group: each member in each context, then the bare subject for the KL term."""

    prefixes: list[tuple[int, ...]]
    """tokens before S"""
    suffixes: list[tuple[int, ...]]
    """tokens from S to the last one that predicts a target token"""
    reads: list[list[tuple[int, int]]]
    """for each loss row: (position in the suffix, token that is wanted next); the KL row has none"""

    @property
    def tokens(self) -> int:
        """Tokens of the longest row, times the rows."""
        return len(self.prefixes) * (max(map(len, self.prefixes)) + max(map(len, self.suffixes)))


def group_rows(loaded: LoadedModel, group: RequestGroup, contexts: Sequence[str]) -> GroupRows:
    """Tokenize one group: P rows a member, and the bare subject."""
    triples = [
        (context.replace("{}", request.prompt), request.subject, request.target)
        for request in group.requests
        for context in contexts
    ]
    placed = locate(loaded.tokenizer, [*triples, ("{}", group.requests[0].subject, "")])
    rows = GroupRows([], [], [])
    for tokens in placed:
        start = tokens.subject_last
        end = len(tokens.ids) - 1 if tokens.target else start + 1
        rows.prefixes.append(tokens.ids[:start])
        rows.suffixes.append(tokens.ids[start:end])
        rows.reads.append([(tokens.target_start - 1 - start + k, token) for k, token in enumerate(tokens.target)])
    return rows


def optimise_targets(
    loaded: LoadedModel,
    groups: Sequence[RequestGroup],
    contexts: Sequence[str],
    settings: MemitSettings,
    on_done: Callable[[list[tuple[int, Target]]], None] = lambda finished: None,
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None,
) -> list[Target]:
    """Return the target vector of each group at layer L = max R (Eqn. 16).

    `on_done` gets (index, target) pairs after each batch, so that a killed run need not begin anew. Raises
    EditError where a loss is not finite.
    """
    rows = [group_rows(loaded, group, contexts) for group in groups]
    found: list[Target | None] = [None] * len(groups)
    # Alike lengths lie together, so little is padding; the id makes the order depend on the set alone.
    waiting = sorted(range(len(groups)), key=lambda place: (-rows[place].tokens, groups[place].id))
    budget, done = TOKEN_BUDGET.get(loaded.device.type, 8192), 0
    progress("targets", 0, len(groups))
    while waiting:
        batch, total = [waiting[0]], rows[waiting[0]].tokens
        for place in waiting[1:]:
            total += rows[place].tokens
            if total > budget:
                break
            batch.append(place)
        try:
            search = TargetSearch(
                loaded, [groups[place] for place in batch], [rows[place] for place in batch], settings
            )
            targets = search.run(partial(report, progress, done, len(groups)))
        except torch.cuda.OutOfMemoryError:
            if len(batch) == 1:
                raise EditError("the device has no memory left for a single request: use a smaller --dtype") from None
            budget //= 2
            torch.cuda.empty_cache()
            continue
        for place, target in zip(batch, targets, strict=True):
            found[place] = target
        on_done(list(zip(batch, targets, strict=True)))
        waiting, done = waiting[len(batch) :], done + len(batch)
    return [target for target in found if target is not None]


def report(progress: Callable[[str, int, int], None], before: int, total: int, finished: int) -> None:
    """Tell how many groups are done: those of earlier batches, and those of this one."""
    progress("targets", before + finished, total)


class TargetSearch:
    """The search for one batch of groups; `run` makes it."""

    def __init__(
        self, loaded: LoadedModel, groups: Sequence[RequestGroup], rows: Sequence[GroupRows], settings: MemitSettings
    ) -> None:
        self.loaded, self.settings, self.layer = loaded, settings, settings.layers[-1]
        device = loaded.device
        self.row_group = torch.tensor([g for g, group in enumerate(rows) for _ in group.prefixes], device=device)
        self.prefix = make_rows([row for group in rows for row in group.prefixes], device, left=True)
        self.suffix = make_rows([row for group in rows for row in group.suffixes], device)
        reads, kl_rows, bare_rows, row = [], [], [], 0
        for g, group in enumerate(rows):
            bare_rows.append(row)
            loss_rows = len(group.reads) - 1
            for read in group.reads[:-1]:
                reads += [(row, position, token, g, 1 / (len(read) * loss_rows)) for position, token in read]
                row += 1
            kl_rows.append(row)
            row += 1
        self.read_row, self.read_position, self.read_token, self.read_group = (
            torch.tensor(column, device=device) for column in list(zip(*reads, strict=True))[:4]
        )
        self.read_weight = torch.tensor([read[4] for read in reads], device=device)
        self.kl_rows = torch.tensor(kl_rows, device=device)
        members = [len(group.requests) for group in groups]
        self.limits = [settings.group_steps(count) for count in members]
        self.prefill(torch.tensor(bare_rows, device=device))
        clamps = torch.tensor([settings.group_clamp(count) for count in members], device=device)
        self.max_norm = clamps * self.h_norm
        self.active = list(range(len(groups)))
        self.log_probs_before: torch.Tensor | None = None

    @torch.no_grad()
    def prefill(self, bare_rows: torch.Tensor) -> None:
        """Run every block once: keys and values before S, and the hidden states at L from S on."""
        self.cache = fill_cache(self.loaded, self.prefix)
        block = self.loaded.family.block_list(self.loaded.model)[self.layer]
        with capture(block) as captured:
            continue_hidden(self.loaded, self.prefix, self.suffix, fresh(self.cache))
        self.hidden, self.as_tuple = captured.value.to(self.row_group.device), captured.as_tuple
        self.h = self.hidden[bare_rows, 0].float()
        self.h_norm = self.h.norm(dim=1)

    def run(self, progress: Callable[[int], None]) -> list[Target]:
        """Search until every group has stopped; return the targets in the groups' order."""
        delta = torch.zeros_like(self.h)
        first, second = torch.zeros_like(delta), torch.zeros_like(delta)
        final, h = delta.clone(), self.h
        history: list[list[float]] = [[] for _ in self.limits]
        blocks = self.loaded.family.block_list(self.loaded.model)
        step = 0
        with resume(blocks, self.layer, self.as_tuple) as stand_in:
            while self.active:
                step += 1
                leaf = delta.detach().requires_grad_()
                losses = self.losses(leaf, stand_in)
                values = losses.tolist()
                for group, value in zip(self.active, values, strict=True):
                    history[group].append(value)
                stays = [
                    place
                    for place, group in enumerate(self.active)
                    if values[place] >= EARLY_STOP_LOSS and step < self.limits[group]
                ]
                if not all(map(_finite, values)):
                    raise EditError("a target's loss is not finite: use --dtype float32, or a smaller lr")
                (gradient,) = torch.autograd.grad(losses.sum(), leaf) if stays else (torch.zeros_like(delta),)
                final[self.active] = delta
                if len(stays) < len(self.active):
                    kept = torch.tensor(stays, dtype=torch.long, device=delta.device)
                    delta, gradient, first, second = (part[kept] for part in (delta, gradient, first, second))
                    self.keep(kept)
                    progress(len(self.limits) - len(self.active))
                delta, first, second = self.adam(delta, gradient, first, second, step)
        return [Target((h + d).cpu(), tuple(losses)) for h, d, losses in zip(h, final, history, strict=True)]

    def losses(self, delta: torch.Tensor, stand_in: torch.nn.Module) -> torch.Tensor:
        """Return the whole loss [G] of each active group at its delta [G, d]."""
        moved = self.hidden[:, 0].float() + delta[self.row_group]
        stand_in.value = torch.cat([moved[:, None].to(self.hidden.dtype), self.hidden[:, 1:]], dim=1)
        hidden = continue_hidden(self.loaded, self.prefix, self.suffix, fresh(self.cache))
        read = torch.cat([hidden[self.read_row, self.read_position], hidden[self.kl_rows, 0]])
        log_probs = head_log_probs(self.loaded, read)
        wanted, bare = log_probs[: len(self.read_row)], log_probs[len(self.read_row) :]
        if self.log_probs_before is None:
            self.log_probs_before = bare.detach()
        tokens = self.read_token[:, None].to(wanted.device)
        nll = -wanted.gather(1, tokens)[:, 0].to(delta.device) * self.read_weight
        loss = torch.zeros(len(delta), device=delta.device).index_add(0, self.read_group, nll)
        kl = (bare.exp() * (bare - self.log_probs_before)).sum(1).to(delta.device)
        decay = delta.norm(dim=1) / self.h_norm**2
        whole: torch.Tensor = loss + self.settings.kl_factor * kl + self.settings.weight_decay * decay
        return whole

    def adam(
        self, delta: torch.Tensor, gradient: torch.Tensor, first: torch.Tensor, second: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Take one step of Adam for each row of delta [G, d] on its own, and clamp |delta|."""
        beta1, beta2 = BETAS
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        scale = (second / (1 - beta2**step)).sqrt() + EPSILON
        delta = delta - self.settings.lr * (first / (1 - beta1**step)) / scale
        norm = delta.norm(dim=1)
        shrink = torch.where(norm > self.max_norm, self.max_norm / norm, torch.ones_like(norm))
        return delta * shrink[:, None], first, second

    def keep(self, kept: torch.Tensor) -> None:
        """Let the groups that are not in `kept` (positions among the active) leave the batch, with their rows."""
        place = torch.full((len(self.active),), -1, device=kept.device)
        place[kept] = torch.arange(len(kept), device=kept.device)
        rows = place[self.row_group] >= 0
        new_row = rows.cumsum(0) - 1
        reads = place[self.read_group] >= 0
        self.read_row, self.read_group = new_row[self.read_row[reads]], place[self.read_group[reads]]
        self.read_position, self.read_token = self.read_position[reads], self.read_token[reads]
        self.read_weight = self.read_weight[reads]
        self.kl_rows = new_row[self.kl_rows[kept]]
        self.row_group = place[self.row_group[rows]]
        self.prefix = Rows(self.prefix.ids[rows], self.prefix.mask[rows])
        self.suffix = Rows(self.suffix.ids[rows], self.suffix.mask[rows])
        self.hidden, self.h_norm, self.max_norm = self.hidden[rows], self.h_norm[kept], self.max_norm[kept]
        if self.log_probs_before is not None:
            self.log_probs_before = self.log_probs_before[kept.to(self.log_probs_before.device)]
        self.cache.batch_select_indices(rows.nonzero()[:, 0].cpu())  # the blocks may lie on several devices
        self.active = [self.active[index] for index in kept.tolist()]


def fresh(cache: Cache) -> Cache:
    """Return a cache over the same tensors that may grow without `cache` growing."""
    grown = copy.copy(cache)
    grown.layers = [copy.copy(layer) for layer in cache.layers]
    return grown


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")
