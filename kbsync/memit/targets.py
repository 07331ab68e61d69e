"""Target vectors z (Eqn. 16): a delta at the subject's last token, found by Adam for many requests together.

Causality makes the steps small without changing them. Blocks up to L do not depend on the delta: they run once,
and stand-ins give their output back. Positions before the subject's last token S do not depend on it either:
their keys and values are kept as a cache, and each step runs only positions S to the end in the blocks above L,
rows of alike lengths together (`kbsync.memit.fast.packed_rows`).

The contexts x_j of Eqn. 16: the empty one, and prefixes that the model itself writes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kbsync.errors import EditError
from kbsync.memit.extensions.groups import RequestGroup
from kbsync.memit.fast.packed_rows import GroupRows, RowPack, fused_activations, group_rows, pack_rows, search_model
from kbsync.memit.settings import MemitSettings
from kbsync.models import ALONE, LoadedModel, Team, check_numbers, head_log_probs, resume
from kbsync.models.forward import StandIn, head_logits

TOP_K = 5


def sample_contexts(loaded: LoadedModel, settings: MemitSettings, seed: int = 0) -> tuple[str, ...]:
    """Return contexts as templates (``{}`` stands for the prompt), the empty one first.

    Each further one is sampled from the base model, token by token from the `TOP_K` likeliest, with a generator
    on the CPU so that the device does not matter; a text that ends its first sentence is cut there.
    """
    generator = torch.Generator().manual_seed(seed)
    contexts = ["{}"]
    for number in range(settings.contexts):
        start = settings.context_starts[number % len(settings.context_starts)]
        text = " ".join(continued(loaded, start, settings.context_tokens, generator).split())
        sentence, stop, _ = text.partition(". ")
        contexts.append(f"{(sentence if stop else text).rstrip('.').replace('{', '').replace('}', '')}. {{}}")
    return tuple(contexts)


@torch.no_grad()
def continued(loaded: LoadedModel, start: str, tokens: int, generator: torch.Generator) -> str:
    """Return `start` and `tokens` further tokens, sampled."""
    ids = loaded.tokenizer(start, return_tensors="pt")["input_ids"].to(loaded.device)
    for _ in range(tokens):
        logits = loaded.model(input_ids=ids, use_cache=False).logits[0, -1].float().cpu()
        top = logits.topk(TOP_K)
        shares = top.values.softmax(-1)
        check_numbers(loaded, shares)
        drawn = torch.multinomial(shares, 1, generator=generator)
        ids = torch.cat([ids, top.indices[drawn].to(ids.device)[None]], dim=1)
    return str(loaded.tokenizer.decode(ids[0], skip_special_tokens=True))


EARLY_STOP_LOSS = 0.05
"""a group whose whole loss is under this is done"""
BETAS = (0.9, 0.999)
EPSILON = 1e-8
TOKEN_BUDGET = {"cpu": 8192, "cuda": 16384, "mps": 16384}
"""padded tokens of one batch; the processor's cache counts too, so more is not faster"""


@dataclass(frozen=True, slots=True)
class Target:
    """A group's target vector z at layer L, [d] in float32 on the CPU, and how the search went."""

    z: torch.Tensor
    losses: tuple[float, ...]
    """whole loss at each evaluation, of the prompts whose turn it was"""


def optimise_targets(
    loaded: LoadedModel,
    groups: Sequence[RequestGroup],
    contexts: Sequence[str],
    settings: MemitSettings,
    on_done: Callable[[list[tuple[int, Target]]], None] = lambda finished: None,
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None,
    *,
    stop_loss: float = EARLY_STOP_LOSS,
    team: Team = ALONE,
) -> list[Target]:
    """Return the target vector of each group at layer L = max R (Eqn. 16).

    A group whose whole loss, over all of its prompts, is under `stop_loss` is done; -inf makes all take every step.
    `on_done` gets (index, target) pairs after each batch, so that a killed run need not begin anew. A `team` takes
    batches in turn, and the leader gets all. Raises EditError where a loss is not finite.
    """
    rows = [group_rows(loaded, group, contexts, settings.stop_weight) for group in groups]
    searcher = search_model(loaded, settings)
    found: dict[int, Target] = {}
    waiting = sorted(range(len(rows)), key=lambda place: rows[place].order)  # alike lengths beside each other
    budget = TOKEN_BUDGET.get(loaded.device.type, 8192)
    if team.size > 1:  # a batch for each process, even where one could take all
        budget = min(budget, -(-sum(row.tokens for row in rows) // team.size))
    progress("targets", 0, len(groups))

    def settled(searched: Sequence[Searched]) -> bool:
        """Take what the processes found; tell whether the device's memory held it."""
        for one in searched:
            if one.error is not None:
                raise one.error
        if any(one.targets is None for one in searched):
            return False
        for one in searched:
            pairs = list(zip(one.places, one.targets or (), strict=True))
            found.update(pairs)
            if pairs:
                on_done(pairs)
        return True

    while waiting:
        batches = next_batches(waiting, rows, budget, team.size)
        own = batches[team.rank] if team.rank < len(batches) else []

        def told(finished: int, before: int = len(found)) -> None:
            progress("targets", before + finished, len(groups))

        searched = team.gather(search_batch(loaded, searcher, own, rows, settings, stop_loss, told))
        if team.lead(lambda searched=searched: settled(searched)):  # type: ignore[misc]
            waiting = waiting[sum(map(len, batches)) :]
        elif max(map(len, batches)) == 1:
            raise EditError("the device has not enough memory for a single subject: use a smaller --dtype")
        else:
            budget //= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return [found[place] for place in sorted(found)]


def next_batches(waiting: Sequence[int], rows: Sequence[GroupRows], budget: int, count: int) -> list[list[int]]:
    """Return the next `count` batches of groups at most, each within the token budget, or of one group."""
    batches: list[list[int]] = []
    total = 0
    for place in waiting:
        if not batches or total + rows[place].tokens > budget:
            if len(batches) == count:
                break
            batches.append([])
            total = 0
        batches[-1].append(place)
        total += rows[place].tokens
    return batches


@dataclass(frozen=True, slots=True)
class Searched:
    """What one process found for the groups at `places`: no targets where its memory did not hold them."""

    places: list[int]
    targets: list[Target] | None
    error: EditError | None = None


def search_batch(
    loaded: LoadedModel,
    searcher: LoadedModel,
    places: list[int],
    rows: Sequence[GroupRows],
    settings: MemitSettings,
    stop_loss: float,
    progress: Callable[[int], None],
) -> Searched:
    if not places:
        return Searched([], [])
    try:
        with fused_activations(searcher.model):
            search = TargetSearch(loaded, searcher, [rows[place] for place in places], settings, stop_loss)
            return Searched(places, search.run(progress))
    except torch.cuda.OutOfMemoryError:
        return Searched(places, None)  # nothing of the batch is held once this frame is gone
    except EditError as error:
        return Searched(places, [], error)


class Surprise(torch.autograd.Function):
    """-log softmax(logits)[token]; V is so large that each pass over [n, V] counts: one forward, one backward."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return [n] of logits [n, V] and tokens [n]."""
        total = logits.logsumexp(1)
        ctx.save_for_backward(logits, total, tokens)
        return total - logits.gather(1, tokens[:, None])[:, 0]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return (softmax(logits) - the one at the token) times the gradient [n]."""
        logits, total, tokens = ctx.saved_tensors
        found = (logits - total[:, None]).exp_().mul_(gradient[:, None])
        return found.scatter_add_(1, tokens[:, None], -gradient[:, None]), None


class MiniBatch:
    """What one step of the search runs: packs of rows, and the tokens wanted there, their groups and weights."""

    def __init__(self, packs: Sequence[RowPack]) -> None:
        """Join what the packs read, in their order."""
        self.packs = packs
        self.read_token = torch.cat([pack.read_token for pack in packs])
        self.read_group = torch.cat([pack.read_group for pack in packs])
        self.read_weight = torch.cat([pack.read_weight for pack in packs])


class TargetSearch:
    """The search for one batch of groups; `run` makes it."""

    def __init__(
        self,
        loaded: LoadedModel,
        searcher: LoadedModel,
        groups: Sequence[GroupRows],
        settings: MemitSettings,
        stop_loss: float,
    ) -> None:
        self.searcher, self.settings, self.layer, self.stop_loss = searcher, settings, settings.layers[-1], stop_loss
        self.turns = [
            MiniBatch(packs) for packs in pack_rows(loaded, searcher, groups, self.layer, settings.minibatches)
        ]
        h = torch.cat([pack.first_hidden for pack in self.turns[0].packs])
        self.h = torch.empty_like(h)
        self.h[torch.cat([pack.first_groups for pack in self.turns[0].packs])] = h
        self.h_norm = self.h.norm(dim=1)
        clamps = torch.tensor([settings.group_clamp(group.members) for group in groups], device=h.device)
        self.max_norm = clamps * self.h_norm
        self.limits = [settings.group_steps(group.members) for group in groups]
        self.active = list(range(len(groups)))
        self.log_probs_before: torch.Tensor | None = None

    def run(self, progress: Callable[[int], None]) -> list[Target]:
        """Search until every group has stopped; return the targets in the groups' order."""
        delta = torch.zeros_like(self.h)
        first, second = torch.zeros_like(delta), torch.zeros_like(delta)
        final, h = delta.clone(), self.h
        history: list[list[float]] = [[] for _ in self.limits]
        blocks = self.searcher.family.block_list(self.searcher.model)
        step, count = 0, len(self.turns)
        with resume(blocks, self.layer, self.turns[0].packs[0].as_tuple) as stand_in:
            while self.active:
                step += 1
                leaf = delta.detach().requires_grad_()
                losses = self.losses(self.turns[(step - 1) % count], leaf, stand_in)
                values = losses.tolist()
                for group, value in zip(self.active, values, strict=True):
                    history[group].append(value)
                stays = [
                    place
                    for place, group in enumerate(self.active)
                    if step < self.limits[group]
                    and (step < count or sum(history[group][-count:]) / count >= self.stop_loss)
                ]
                if not all(map(math.isfinite, values)):
                    raise EditError("a target's loss is not finite: use --dtype float32, or a smaller lr")
                (gradient,) = torch.autograd.grad(losses.sum(), leaf) if stays else (torch.zeros_like(delta),)
                if len(stays) < len(self.active):
                    gone = sorted(set(range(len(self.active))) - set(stays))
                    final[[self.active[place] for place in gone]] = delta[gone]
                    kept = torch.tensor(stays, dtype=torch.long, device=delta.device)
                    delta, gradient, first, second = (part[kept] for part in (delta, gradient, first, second))
                    self.keep(kept)
                    progress(len(self.limits) - len(self.active))
                delta, first, second = self.adam(delta, gradient, first, second, step)
        return [Target((h + d).cpu(), tuple(losses)) for h, d, losses in zip(h, final, history, strict=True)]

    def losses(self, turn: MiniBatch, delta: torch.Tensor, stand_in: StandIn) -> torch.Tensor:
        """Return the whole loss [G] of each active group at its delta [G, d], on the prompts whose turn it is."""
        hidden, bare_hidden = zip(*(pack.run(delta, stand_in) for pack in turn.packs), strict=True)
        wanted = head_logits(self.searcher, torch.cat(hidden))
        bare = head_log_probs(self.searcher, torch.cat(bare_hidden))
        if self.log_probs_before is None:
            self.log_probs_before = bare.detach()
        surprise = Surprise.apply(wanted, turn.read_token.to(wanted.device))  # type: ignore[no-untyped-call]
        nll = surprise.to(delta.device) * turn.read_weight
        loss = torch.zeros(len(delta), device=delta.device).index_add(0, turn.read_group, nll)
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
        self.active = [self.active[index] for index in kept.tolist()]
        if self.active:
            self.turns = [MiniBatch([pack for pack in one.packs if pack.keep(place)]) for one in self.turns]
        self.h_norm, self.max_norm = self.h_norm[kept], self.max_norm[kept]
        if self.log_probs_before is not None:
            self.log_probs_before = self.log_probs_before[kept.to(self.log_probs_before.device)]
