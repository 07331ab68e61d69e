"""Spread the residuals over the edited layers (Eqn. 17-20, Algorithm 1), in one sweep or several.

One sweep goes through R in ascending order: keys and h^L with the layers below already updated, the residual
(z - h^L) / (layers not yet done), Eqn. 14, on to the next. A further sweep solves for the TOTAL delta from the
base, its residual being what is still missing plus what the present delta gives already.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from kbsync.errors import EditError
from kbsync.facts import EditRequest
from kbsync.memit.delta import WeightDelta, with_delta
from kbsync.memit.extensions.groups import RequestGroup, columns
from kbsync.memit.extensions.post_norm import before_norm
from kbsync.memit.extensions.preserved_keys import kept_moments
from kbsync.memit.extensions.reweighting import RecallCheck
from kbsync.memit.fast.solve_device import solve_device
from kbsync.memit.settings import MemitSettings
from kbsync.memit.solve import Solution, solve
from kbsync.memit.team_states import TeamStates
from kbsync.models import ALONE, LoadedModel, Team, hold_weights

__all__ = ["Solver", "spread"]

Solver = Callable[[int, torch.Tensor, torch.Tensor], Solution]
"""a layer, its keys K [m, u] and residual r [d, u] in float64 -> its delta; requests weigh alike"""


@torch.no_grad()
def spread(
    loaded: LoadedModel,
    groups: Sequence[RequestGroup],
    contexts: Sequence[str],
    z: torch.Tensor,
    covariances: Mapping[int, torch.Tensor],
    settings: MemitSettings,
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None,
    phase: Callable[[str], AbstractContextManager[None]] = lambda name: nullcontext(),
    remark: Callable[[str], None] = lambda text: None,
    team: Team = ALONE,
    held: Sequence[EditRequest] = (),
    *,
    solver: Solver | None = None,
) -> dict[int, WeightDelta]:
    """Return the delta of each layer of R that brings h^L of every group to its z [u, d]; the model is left as found.

    `covariances` maps layers to C [m, m]. In the solve, groups whose subject has others weigh `settings.group_weight`
    times as much; before each sweep from the second on, those with a member that the model is not sure of come to
    weigh `settings.emphasis` times what they did.
    Edited layers compute in float32 meanwhile, whatever the model's dtype. `phase` is entered around the finding of
    "keys" and around the "solve", so that both can be timed; `remark` is told where the solve is done, and what it
    needed. In a `team` each process finds the keys of its share of the groups, and the leader, who alone needs
    `covariances`, solves; the deltas are the leader's. Another method's `solver` takes the place of Eqn. 14.

    Keys that the deltas are to leave alone weigh in the solve beside C: those at the rest of the edits' prompts, and
    those of the prompts `held` (see `kept_moments`).
    """
    if not groups:
        raise EditError("no requests to spread")
    layers, L = settings.layers, settings.layers[-1]
    device, why = solve_device(loaded.devices)
    remark(why)
    every, owner = columns(groups)
    z = z.to(device).double().T
    target = z[:, owner]
    deltas: dict[int, WeightDelta] = {}
    present: dict[int, torch.Tensor] = {}
    own_weights = torch.tensor([settings.group_weight if group.others else 1.0 for group in every], device=device)
    share = Share(loaded, team.share(every), contexts, settings, team)
    with hold_weights(loaded.family, loaded.model, layers, masters=True) as weights_of:
        with phase("keys"):
            staying = {} if solver else kept_moments(loaded, groups, settings, team, held)
            share.begin()
        for sweep in range(settings.sweeps):
            with phase("keys"):
                emphasis = share.emphasised() if sweep and settings.emphasis != 1 else None
                share.go_back()
            weights = own_weights if emphasis is None else own_weights * emphasis.to(device)
            for number, layer in enumerate(layers):
                with phase("keys"):
                    found = share.keys(layer, first=number == 0)
                if found is not None and sweep == number == 0:
                    target = at_every_key(z, owner, found.hidden.to(device))

                def solved(
                    found: Found | None = found,
                    layer: int = layer,
                    left: int = len(layers) - number,
                    weights: torch.Tensor = weights,
                    target: torch.Tensor = target,
                ) -> Solution:
                    assert found is not None, "the leader has a share"
                    keys, residual = found.keys.to(device), found.residual(target, left, present.get(layer))
                    if solver is not None:
                        return solver(layer, keys, residual)
                    stays = staying[layer].to(device) if staying else None
                    return solve(keys, residual, covariances[layer].to(device), settings.lambda_, weights, stays)

                with phase("solve"):
                    solution = team.lead(solved)
                    present[layer] = solution.left @ solution.right
                    deltas[layer] = WeightDelta(solution.left.float(), solution.right.float(), solution.jitter)
                    weights_of[layer].put(with_delta(weights_of[layer].base, present[layer]))
                if solution.jitter:
                    remark(f"layer {layer}: {solution.jitter:g} of lambda C's mean diagonal was added to the diagonal")
                if layer != L:
                    with phase("keys"):
                        share.advance(layer, layers[number + 1] - 1)
                progress("solve", sweep * len(layers) + number + 1, settings.sweeps * len(layers))
    return deltas


def at_every_key(z: torch.Tensor, owner: Sequence[int], base: torch.Tensor) -> torch.Tensor:
    """Return the value [d, u] wanted at each column: z [d, groups] at a group's first, base h^L + delta at its others.

    `base` [d, u] is h^L of the base model, and delta what z adds to it at the group's first column.
    """
    firsts = [owner.index(number) for number in range(z.shape[1])]
    wanted = base + (z - base[:, firsts])[:, owner]
    wanted[:, firsts] = z
    return wanted


@dataclass(frozen=True, slots=True)
class Found:
    """What the leader needs to solve a layer, of all groups."""

    keys: torch.Tensor
    """K [m, u]"""
    hidden: torch.Tensor
    """present h^L [d, u]"""
    norm: nn.Module | None
    """behind the MLP, in families that have one"""
    behind: torch.Tensor | None
    """what that norm is given at S, [d, u]"""

    def residual(self, target: torch.Tensor, left: int, total: torch.Tensor | None) -> torch.Tensor:
        """Return r [d, u] for the total delta, `left` layers not yet being done; `total` is the present delta."""
        residual = (target - self.hidden.to(target.device)) / left
        if self.norm is not None and self.behind is not None:
            residual = before_norm(self.norm, self.behind, residual.to(self.behind.device)).to(target.device)
        return residual if total is None else residual + total @ self.keys.to(target.device)


class Share(TeamStates):
    """The groups to write; what each process finds is put together on the leader."""

    def __init__(
        self,
        loaded: LoadedModel,
        groups: Sequence[RequestGroup],
        contexts: Sequence[str],
        settings: MemitSettings,
        team: Team,
    ) -> None:
        super().__init__(loaded, groups, contexts, settings, team)
        self.emphasis = settings.emphasis
        self.check: RecallCheck | None = None
        self.weights = torch.ones(len(groups))

    def keys(self, layer: int, *, first: bool) -> Found | None:
        """Return what the leader needs to solve `layer`, on the leader; nothing on others."""
        keys = hidden = behind = None
        norm = self.loaded.family.norm_behind(self.loaded.model, layer)
        if self.states is not None:
            keys, hidden = self.states.keys_and_hidden(layer, self.layers[-1], self.first_keys if first else None)
            self.first_keys = keys if first else self.first_keys
            behind = None if norm is None else self.states.given_to(norm, layer)
        keys, hidden, behind = (self.team.columns(part) for part in (keys, hidden, behind))
        return None if keys is None or hidden is None else Found(keys, hidden, norm, behind)

    def emphasised(self) -> torch.Tensor | None:
        """Return how many times as much each group weighs in the coming sweep, [u], on the leader.

        The weights of groups that the model stays unsure of grow from sweep to sweep, so that a large lambda can keep
        the rest of the model and still give way where it must.
        """
        own = None
        if self.groups:
            members = [request for group in self.groups for request in group.requests]
            self.check = self.check or RecallCheck(self.loaded, members, self.layers[0])
            sure = dict(zip((request.id for request in members), self.check.sure(), strict=True))
            held = [all(sure[request.id] for request in group.requests) for group in self.groups]
            self.weights = self.weights * torch.tensor([1.0 if good else self.emphasis for good in held])
            own = self.weights[None]
        every = self.team.columns(own)
        return None if every is None else every[0]
