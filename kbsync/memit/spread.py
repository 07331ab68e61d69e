"""Spread the residuals over the edited layers (Eqn. 17-20, Algorithm 1), in one sweep or several.

One sweep goes through R in ascending order: keys and h^L with the layers below already updated, the residual
(z - h^L) / (layers not yet done), Eqn. 14, on to the next. A further sweep solves for the TOTAL delta from the
base, its residual being what is still missing plus what the present delta gives already.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

from kbsync.errors import EditError
from kbsync.facts import EditRequest
from kbsync.memit.delta import WeightDelta, with_delta
from kbsync.memit.extensions.groups import RequestGroup, columns
from kbsync.memit.extensions.post_norm import before_norm
from kbsync.memit.extensions.preserved_keys import preserved_moments
from kbsync.memit.fast.solve_device import solve_device
from kbsync.memit.keys import LayerKeys, SubjectKeys
from kbsync.memit.settings import MemitSettings
from kbsync.memit.solve import Solution, solve
from kbsync.models import ALONE, LoadedModel, Team, hold_weights

Solver = Callable[[int, torch.Tensor, torch.Tensor], Solution]
"""a layer, its keys K [m, u] and residual r [d, u] in float64 -> its delta"""


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

    `covariances` maps layers to C [m, m]. Edited layers compute in float32 meanwhile, whatever the model's dtype.
    `phase` is entered around the finding of "keys" and around the "solve", so that both can be timed; `remark` gets
    where the solve is done, and what it needed. In a `team` each process finds the keys of its share of the groups,
    and the leader, who alone needs `covariances`, solves; the deltas are the leader's. Another method's `solver` takes
    the place of Eqn. 14. Preserved keys weigh in the solve beside C (`preserved_moments`): those at the rest of the
    edits' prompts, and those of the prompts `held`.
    """
    if not groups:
        raise EditError("no requests to spread")
    layers = settings.layers
    device, why = solve_device(loaded.devices)
    remark(why)
    every, owner = columns(groups)
    wanted = z = z.to(device).double().T
    solved: dict[int, Solution] = {}
    with hold_weights(loaded.family, loaded.model, layers, masters=True) as weights:
        with phase("keys"):
            preserved = {} if solver else preserved_moments(loaded, groups, settings, team, held)
            subjects = SubjectKeys(loaded, every, contexts, layers, team)
        solver = solver or eqn_14(covariances, settings.lambda_, preserved, key_weights(groups, settings.wordings))
        for step in range(settings.sweeps * len(layers)):
            number = step % len(layers)
            layer = layers[number]
            with phase("keys"):
                subjects.move_to(number)
                found = subjects.at(layer)
            if step == 0 and found is not None:
                wanted = at_every_key(z, owner, found.hidden.to(device))
            with phase("solve"):
                one = partial(solve_layer, solver, layer, found, wanted, len(layers) - number, solved.get(layer))
                solved[layer] = team.lead(one)
                weights[layer].put(with_delta(weights[layer].base, solved[layer].left @ solved[layer].right))
            if jitter := solved[layer].jitter:
                remark(f"layer {layer}: {jitter:g} of lambda C's mean diagonal was added to the diagonal")
            progress("solve", step + 1, settings.sweeps * len(layers))
    return {layer: WeightDelta(one.left.float(), one.right.float(), one.jitter) for layer, one in solved.items()}


def key_weights(groups: Sequence[RequestGroup], wordings: int) -> torch.Tensor:
    """Return the weight [u] of each column of the solve: sqrt((wordings + 1) / its group's keys), 1 at least.

    lambda is set for facts on `wordings` further wordings, whose keys add up. A fact that has fewer is written as
    firmly only if each key weighs more; by how much was measured (docs/real-models.md, "300 counterfactuals").
    """
    keys = torch.tensor([1 + len(group.keys) for group in groups])
    return ((wordings + 1) / keys).clamp(min=1).sqrt().repeat_interleave(keys).double()


def eqn_14(
    covariances: Mapping[int, torch.Tensor],
    lambda_: float,
    preserved: Mapping[int, torch.Tensor],
    weights: torch.Tensor,
) -> Solver:
    """Return MEMIT's solver, with the sums over `preserved` keys, [m, m] for each layer, where there are any.

    A column of weight w adds w |delta k - r|^2 to what is minimised: it is solved as sqrt(w) k and sqrt(w) r.
    """

    def solver(layer: int, keys: torch.Tensor, residual: torch.Tensor) -> Solution:
        stays = preserved[layer].to(keys.device) if preserved else None
        roots = weights.sqrt().to(keys.device)
        return solve(keys.double() * roots, residual * roots, covariances[layer].to(keys.device), lambda_, stays)

    return solver


def solve_layer(
    solver: Solver, layer: int, found: LayerKeys | None, wanted: torch.Tensor, left: int, total: Solution | None
) -> Solution:
    """Return the delta of a layer whose residual r (Eqn. 20) is a share of what its columns lack to be as `wanted`.

    `left` layers, this one with them, are not yet done. `total` is the layer's delta of the sweep before, if any.
    """
    assert found is not None, "the leader has a share"
    keys, residual = found.keys.to(wanted.device), (wanted - found.hidden.to(wanted.device)) / left
    if found.norm is not None and found.before_norm is not None:
        residual = before_norm(found.norm, found.before_norm, residual.to(found.before_norm.device)).to(wanted.device)
    if total is not None:
        residual = residual + total.left @ (total.right @ keys)
    return solver(layer, keys, residual)


def at_every_key(z: torch.Tensor, owner: Sequence[int], base: torch.Tensor) -> torch.Tensor:
    """Return the value [d, u] wanted at each column: z [d, groups] at a group's first, base h^L + delta at its others.

    `base` [d, u] is h^L of the base model, and delta what z adds to it at the group's first column.
    """
    firsts = [owner.index(number) for number in range(z.shape[1])]
    wanted = base + (z - base[:, firsts])[:, owner]
    wanted[:, firsts] = z
    return wanted
