"""Spread the residuals over the edited layers (Eqn. 17-20, Algorithm 1), in one sweep or several.

One sweep goes through R in ascending order: keys and h^L with the layers below already updated, the residual
(z - h^L) / (layers not yet done), Eqn. 14, on to the next. A further sweep solves for the TOTAL delta from the
base, its residual being what is still missing plus what the present delta gives already.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from kbsync.errors import EditError
from kbsync.memit.delta import WeightDelta, with_delta
from kbsync.memit.groups import RequestGroup
from kbsync.memit.post_norm import before_norm
from kbsync.memit.recall import RecallCheck
from kbsync.memit.settings import MemitSettings
from kbsync.memit.solve import solve
from kbsync.memit.solve_device import solve_device
from kbsync.memit.subject_states import SubjectStates
from kbsync.models import LoadedModel, hold_weights

__all__ = ["spread"]


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
) -> dict[int, WeightDelta]:
    """Return the delta of each layer of R that brings h^L of every group to its z [u, d]; the model is left as found.

    `covariances` maps layers to C [m, m]. From the second sweep on, groups with a member that is not recalled weigh
    `settings.emphasis` times as much in the solve. Edited layers compute in float32 meanwhile, whatever the model's
    dtype. `phase` is entered around the finding of "keys" and around the "solve", so that both can be timed; `remark`
    is told where the solve is done, and what it needed.
    """
    if not groups:
        raise EditError("there is no request to spread")
    layers, L = settings.layers, settings.layers[-1]
    device, why = solve_device(loaded.devices)
    remark(why)
    members = [request for group in groups for request in group.requests]
    target = z.to(device).double().T
    deltas: dict[int, WeightDelta] = {}
    with hold_weights(loaded.family, loaded.model, layers, masters=True) as held:
        with phase("keys"):
            states = SubjectStates(loaded, groups, contexts)
            if layers[0] > 0:
                states.advance(0, layers[0] - 1)
        states.remember()
        present: dict[int, torch.Tensor] = {}
        first_keys: torch.Tensor | None = None
        check: RecallCheck | None = None
        for sweep in range(settings.sweeps):
            weights: torch.Tensor | None = None
            if sweep and settings.emphasis != 1:
                with phase("keys"):
                    check = check or RecallCheck(loaded, members, layers[0])
                    weights = emphasis(check, groups, settings.emphasis).to(device)
            states.go_back()
            for number, layer in enumerate(layers):
                with phase("keys"):
                    # Nothing below the first layer changes, so its keys stay.
                    keys, hidden = states.keys_and_hidden(layer, L, None if number else first_keys)
                    first_keys = first_keys if number else keys
                    norm = loaded.family.norm_behind(loaded.model, layer)
                    behind = None if norm is None else states.given_to(norm, layer)
                with phase("solve"):
                    K, h, C = keys.to(device), hidden.to(device), covariances[layer].to(device)
                    residual = (target - h) / (len(layers) - number)
                    if norm is not None and behind is not None:
                        residual = before_norm(norm, behind, residual.to(behind.device)).to(device)
                    if layer in present:
                        residual = residual + present[layer] @ K
                    solution = solve(K, residual, C, settings.lambda_, weights)
                    present[layer] = solution.left @ solution.right
                    deltas[layer] = WeightDelta(solution.left.float(), solution.right.float(), solution.jitter)
                    held[layer].put(with_delta(held[layer].base, present[layer]))
                if solution.jitter:
                    remark(f"layer {layer}: {solution.jitter:g} of lambda C's mean diagonal was added to the diagonal")
                if layer != L:
                    with phase("keys"):
                        states.advance(layer, layers[number + 1] - 1)
                progress("solve", sweep * len(layers) + number + 1, settings.sweeps * len(layers))
    return deltas


def emphasis(check: RecallCheck, groups: Sequence[RequestGroup], factor: float) -> torch.Tensor:
    """Return the weight [u] of each group in a further sweep: `factor` where a member is not recalled."""
    members = [request.id for group in groups for request in group.requests]
    recalled = dict(zip(members, check.recalled(), strict=True))
    held = [all(recalled[request.id] for request in group.requests) for group in groups]
    return torch.tensor([1.0 if good else factor for good in held])
