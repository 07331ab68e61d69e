"""Keys and hidden states at the subject's last token S, while layers change (Eqn. 19 and 20).

Two things save work, and change nothing. Rows of one context and prompt begin with the same tokens: these are run once
(`SharedRows`). And a prefixed row is run up to the down projection, where its key is read; only bare prompts go on to
layer L.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from kbsync.memit.extensions.groups import RequestGroup
from kbsync.memit.fast.shared_rows import RowBatch, SharedRows
from kbsync.models import LoadedModel, Team, capture, locate, stop_before
from kbsync.models.forward import Captured


class SubjectStates:
    """Keys and hidden states at S, for all groups in all contexts, the first of them empty."""

    def __init__(self, loaded: LoadedModel, groups: Sequence[RequestGroup], contexts: Sequence[str]) -> None:
        self.loaded, self.groups, self.contexts = loaded, len(groups), len(contexts)
        firsts = [group.requests[0] for group in groups]
        written = [one.written(context.replace("{}", one.prompt)) for context in contexts for one in firsts]
        texts = [prompt for prompt, _, _ in written]
        placed = locate(loaded.tokenizer, [(prompt, subject, "") for prompt, subject, _ in written])
        ids = [tokens.ids[: tokens.subject_last + 1] for tokens in placed]
        u = self.groups
        every_context = [context for context in contexts for _ in firsts]
        most = [len(row) - 1 for row in ids]  # the last token is where keys and hidden states are read
        self.bare = SharedRows(loaded, ids[:u], most[:u], texts[:u], every_context[:u])
        self.every = [self.bare]
        if len(contexts) > 1:
            self.every.append(SharedRows(loaded, ids[u:], most[u:], texts[u:], every_context[u:]))

    def advance(self, begin: int, end: int) -> None:
        """Run blocks `begin` to `end` as they are now, and keep the last one's output as the entering states."""
        for rows in self.every:
            rows.advance(begin, end)

    def remember(self) -> None:
        """Keep the states that enter the layer at hand, for `go_back`."""
        self.entering = [rows.states for rows in self.every]

    def go_back(self) -> None:
        """Be at the layer where `remember` was called."""
        for rows, states in zip(self.every, self.entering, strict=True):
            rows.states = states

    def keys_and_hidden(
        self, layer: int, last_layer: int, keys: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return K [m, u] of `layer` (Eqn. 19) and the present h^L [d, u] of the bare prompts, in float64.

        Where `keys` are given, they are known still, and only bare prompts are run.
        """
        bare, hidden = self.bare_keys_and_hidden(layer, last_layer)
        if keys is None:
            prefixed = self.prefixed_keys(layer)
            keys = (bare if prefixed is None else (bare + prefixed.mean(0)) / 2).T
        return keys, hidden.T

    def bare_keys_and_hidden(self, layer: int, last_layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the bare prompts' keys [u, m] of `layer` and their h^L [u, d]; blocks `layer` to L are run."""
        block = self.loaded.family.block_list(self.loaded.model)[last_layer]
        down = self.loaded.family.down_projection(self.loaded.model, layer)
        self.bare.run_prefixes(layer, last_layer)
        keys, hidden = [], []
        for batch in self.bare.batches:
            with capture(down, inputs=True) as key, capture(block) as output:
                self.bare.run(batch, layer, last_layer)
            keys.append(at_last(key, batch))
            hidden.append(at_last(output, batch))
        return self.bare.in_order(keys), self.bare.in_order(hidden)

    def given_to(self, module: nn.Module, layer: int) -> torch.Tensor:
        """Return the present input [d, u] of a `module` of block `layer` at S of the bare prompts, in float64."""
        self.bare.run_prefixes(layer, layer)
        given = []
        for batch in self.bare.batches:
            with capture(module, inputs=True) as captured:
                self.bare.run(batch, layer, layer)
            given.append(at_last(captured, batch))
        return self.bare.in_order(given).T

    def prefixed_keys(self, layer: int) -> torch.Tensor | None:
        """Return the keys [P - 1, u, m] of `layer` in all contexts but the empty one; None where there is no other."""
        if self.contexts == 1:
            return None
        (_, rows) = self.every
        down = self.loaded.family.down_projection(self.loaded.model, layer)
        rows.run_prefixes(layer, layer, before=down)
        keys = []
        for batch in rows.batches:
            with stop_before(down) as key:
                rows.run(batch, layer, layer)
            keys.append(at_last(key, batch))
        found = rows.in_order(keys)
        return found.view(self.contexts - 1, self.groups, found.shape[1])


def at_last(captured: Captured, batch: RowBatch) -> torch.Tensor:
    """Return what stands at each row's last token, in float64, of captured values [B, T, n]."""
    values = captured.by_row(batch.part.rows.ids)
    every = torch.arange(len(batch.places), device=values.device)
    return values[every, (batch.part.rows.lengths - 1).to(values.device)].double()


@dataclass(frozen=True, slots=True)
class LayerKeys:
    """What a layer is solved from, of all groups."""

    keys: torch.Tensor
    """K [m, u]"""
    hidden: torch.Tensor
    """present h^L [d, u]"""
    norm: nn.Module | None
    """behind the MLP, in families that have one"""
    before_norm: torch.Tensor | None
    """what that norm is given at S, [d, u]"""


class SubjectKeys:
    """The keys of all groups, layer by layer; the processes of a team find a share each, and the leader gets all.

    A process whose share is empty has no states, and only sends and receives.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        groups: Sequence[RequestGroup],
        contexts: Sequence[str],
        layers: Sequence[int],
        team: Team,
    ) -> None:
        """Run the blocks below the first of the edited `layers`."""
        self.loaded, self.layers, self.team = loaded, layers, team
        self.first_keys: torch.Tensor | None = None
        """keys of the first edited layer, which nothing changes"""
        self.states: SubjectStates | None = None
        if own := team.share(groups):
            self.states = SubjectStates(loaded, own, contexts)
            if layers[0]:
                self.states.advance(0, layers[0] - 1)
            self.states.remember()

    def move_to(self, number: int) -> None:
        """Be at the edited layer of this number, through the blocks as they are now, or back at the first."""
        if self.states is None:
            return
        if number == 0:
            self.states.go_back()
        else:
            self.states.advance(self.layers[number - 1], self.layers[number] - 1)

    def at(self, layer: int) -> LayerKeys | None:
        """Return K of `layer` and the present h^L, on the leader; nothing on others."""
        keys = hidden = given = None
        norm = self.loaded.family.norm_behind(self.loaded.model, layer)
        if self.states is not None:
            first = layer == self.layers[0]
            keys, hidden = self.states.keys_and_hidden(layer, self.layers[-1], self.first_keys if first else None)
            self.first_keys = keys if first else self.first_keys
            given = None if norm is None else self.states.given_to(norm, layer)
        keys, hidden, given = (self.team.columns(part) for part in (keys, hidden, given))
        return None if keys is None or hidden is None else LayerKeys(keys, hidden, norm, given)
