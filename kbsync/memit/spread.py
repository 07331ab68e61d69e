"""Spread the residuals over the edited layers (Eqn. 17-20, Algorithm 1), in one sweep or several.

One sweep goes through R in ascending order: keys and h^L with the layers below already updated, the residual
(z - h^L) / (layers not yet done), Eqn. 14, on to the next. A further sweep solves for the TOTAL delta from the
base, its residual being what is still missing plus what the present delta gives already.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from kbsync.errors import EditError
from kbsync.memit.delta import WeightDelta, edited, write
from kbsync.memit.groups import RequestGroup
from kbsync.memit.post_norm import before_norm
from kbsync.memit.settings import MemitSettings
from kbsync.memit.solve import solve
from kbsync.models import LoadedModel, Rows, capture, last_hidden, locate, make_rows, resume, stop_after
from kbsync.models.answers import score_targets
from kbsync.models.forward import batches_by_length

__all__ = ["spread"]

TOKEN_BUDGET = 8192


@dataclass(slots=True)
class PromptBatch:
    """Prompts up to the last subject token, with the hidden states that enter the layer at hand."""

    rows: Rows
    last: torch.Tensor
    """[B] position of the last subject token"""
    places: list[int]
    """which (group, context) each row is, counted over all groups: group * P + context"""
    states: torch.Tensor | None = None
    """[B, T, d], the output of the block below; None where that is the embedding"""


class SubjectStates:
    """Keys and hidden states at the last subject token, for all groups in all contexts."""

    def __init__(self, loaded: LoadedModel, groups: Sequence[RequestGroup], contexts: Sequence[str]) -> None:
        self.loaded, self.contexts, self.groups = loaded, len(contexts), len(groups)
        self.blocks = loaded.family.block_list(loaded.model)
        self.as_tuple = False
        triples = [
            (context.replace("{}", group.requests[0].prompt), group.requests[0].subject, "")
            for group in groups
            for context in contexts
        ]
        ids = [tokens.ids[: tokens.subject_last + 1] for tokens in locate(loaded.tokenizer, triples)]
        self.batches = [
            PromptBatch(rows := make_rows([ids[place] for place in batch], loaded.device), rows.lengths - 1, batch)
            for batch in batches_by_length([len(row) for row in ids], TOKEN_BUDGET)
        ]

    def run(self, batch: PromptBatch, begin: int, end: int) -> None:
        """Run blocks `begin` to `end` on a batch; what they give is read by whoever captures it."""
        with ExitStack() as stack:
            if begin > 0 and batch.states is not None:
                stand_in = stack.enter_context(resume(self.blocks, begin - 1, self.as_tuple))
                stand_in.value = batch.states
            with stop_after(self.blocks[end]):
                last_hidden(self.loaded, batch.rows)

    def advance(self, begin: int, end: int) -> None:
        """Run blocks `begin` to `end` as they are now, and keep the last one's output as the entering states."""
        for batch in self.batches:
            with capture(self.blocks[end]) as captured:
                self.run(batch, begin, end)
            self.as_tuple, batch.states = captured.as_tuple, captured.value

    def keys_and_hidden(self, layer: int, last_layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return K [m, u] of `layer` (Eqn. 19) and the present h^L [d, u] of the bare prompts, in float64."""
        keys: torch.Tensor | None = None
        hidden: torch.Tensor | None = None
        down = self.loaded.family.down_projection(self.loaded.model, layer)
        for batch in self.batches:
            with capture(down, inputs=True) as key, capture(self.blocks[last_layer]) as output:
                self.run(batch, layer, last_layer)
            every = torch.arange(len(batch.places), device=batch.last.device)
            k, h = key.by_row(batch.rows.ids)[every, batch.last].double(), output.value[every, batch.last].double()
            if keys is None or hidden is None:
                rows = self.groups * self.contexts
                keys, hidden = k.new_zeros(rows, k.shape[1]), h.new_zeros(rows, h.shape[1])
            keys[batch.places], hidden[batch.places] = k, h
        if keys is None or hidden is None:
            raise EditError("there is no request to spread")
        keys = keys.view(self.groups, self.contexts, -1)
        mean = keys[:, 0] if self.contexts == 1 else (keys[:, 0] + keys[:, 1:].mean(1)) / 2
        return mean.T, hidden.view(self.groups, self.contexts, -1)[:, 0].T

    def given_to(self, module: torch.nn.Module, layer: int) -> torch.Tensor:
        """Return the present input [d, u] of a `module` of block `layer` at S of the bare prompts."""
        rows: dict[int, torch.Tensor] = {}
        for batch in self.batches:
            with capture(module, inputs=True) as given:
                self.run(batch, layer, layer)
            every = torch.arange(len(batch.places), device=batch.last.device)
            values = given.by_row(batch.rows.ids)[every, batch.last]
            rows.update(zip(batch.places, values, strict=True))
        return torch.stack([rows[place] for place in range(0, len(rows), self.contexts)], dim=1)


@torch.no_grad()
def spread(
    loaded: LoadedModel,
    groups: Sequence[RequestGroup],
    contexts: Sequence[str],
    z: torch.Tensor,
    covariances: Mapping[int, torch.Tensor],
    settings: MemitSettings,
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None,
) -> dict[int, WeightDelta]:
    """Return the delta of each layer of R that brings h^L of every group to its z [u, d]; the model is left as found.

    `covariances` maps layers to C [m, m]. From the second sweep on, groups with a member that is not recalled weigh
    `settings.emphasis` times as much in the solve.
    """
    layers = settings.layers
    target = z.to(loaded.device).double().T
    bases = {layer: loaded.family.weight(loaded.model, layer).clone() for layer in layers}
    zero = {layer: torch.zeros_like(base, dtype=torch.float64) for layer, base in bases.items()}
    deltas: dict[int, WeightDelta] = {}
    entry = SubjectStates(loaded, groups, contexts)
    if layers[0] > 0:
        entry.advance(0, layers[0] - 1)
    entering = [batch.states for batch in entry.batches]
    total = settings.sweeps * len(layers)
    with edited(loaded, zero):
        present = zero
        for sweep in range(settings.sweeps):
            weights = emphasis(loaded, groups, settings) if sweep else None
            for batch, states in zip(entry.batches, entering, strict=True):
                batch.states = states
            for number, layer in enumerate(layers):
                keys, hidden = entry.keys_and_hidden(layer, layers[-1])
                residual = (target - hidden) / (len(layers) - number)
                if (norm := loaded.family.norm_behind(loaded.model, layer)) is not None:
                    residual = before_norm(norm, entry.given_to(norm, layer), residual)
                residual = residual + present[layer] @ keys
                left, right = solve(keys, residual, covariances[layer].to(keys.device), settings.lambda_, weights)
                present = {**present, layer: left @ right}
                deltas[layer] = WeightDelta(left.float(), right.float())
                write(loaded, layer, bases[layer], present[layer])
                if layer != layers[-1]:
                    entry.advance(layer, layers[number + 1] - 1)
                progress("solve", sweep * len(layers) + number + 1, total)
    return deltas


def emphasis(loaded: LoadedModel, groups: Sequence[RequestGroup], settings: MemitSettings) -> torch.Tensor | None:
    """Return the weight [u] of each group in a further sweep, or None where all weigh the same."""
    if settings.emphasis == 1:
        return None
    requests = [request for group in groups for request in group.requests]
    scores = score_targets(loaded, [(request.prompt, request.subject, request.target) for request in requests])
    exact = {request.id: score.exact for request, score in zip(requests, scores, strict=True)}
    held = [all(exact[request.id] for request in group.requests) for group in groups]
    return torch.tensor([1.0 if good else settings.emphasis for good in held], device=loaded.device)
