"""ROME (Meng et al. 2022, arXiv 2202.05262): a rank-one edit of one layer for each request, one after another.

With k* the mean key of the subject over the contexts (its section 3.1), v* the value that makes the model say the
object, and W the down projection as the requests before have left it, `rome` is the paper's Eqn. 2:

    delta = (v* - W k*) (C^-1 k*)^T / (k*^T C^-1 k*)

so that (W + delta) k* = v*. The published code has k, the key in the bare prompt, in place of k* but in C^-1 k*, so
that (W + delta) k = v*; that is `rome-published`. Where k is far from k*, its denominator is small and the edit large,
which is what makes its edits in sequence break a model (Gupta et al. 2024, arXiv 2403.07175).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from kbsync.editors.editor import Deltas, Task, block_at, check
from kbsync.errors import EditError
from kbsync.memit import MemitSettings, RequestGroup, WeightDelta, optimise_targets
from kbsync.memit.delta import with_delta
from kbsync.memit.extensions.post_norm import before_norm
from kbsync.memit.keys import SubjectStates
from kbsync.memit.solve import factorise
from kbsync.models import hold_weights

GPTJ_SHARE = 5 / 28  # layer 5 of GPT-J's 28


@dataclass(frozen=True, slots=True)
class RomeSettings:
    """ROME's settings; the defaults are those published for GPT-J."""

    layer: int | None = None
    """block that is edited; none means at the share of depth that GPT-J's 5 of 28 is"""
    steps: int = 20
    """times that the loss of v* is evaluated at most"""
    lr: float = 0.5
    """Adam's learning rate for v*"""
    clamp_norm_factor: float = 4.0
    """the hidden state moves by this times its norm at most"""
    weight_decay: float = 0.5
    """weight of |delta| / |h|^2 in the loss"""
    kl_factor: float = 0.0625
    """weight of KL(after || before) on the bare subject"""

    def __post_init__(self) -> None:
        check(self, "0 or more", lambda value: value >= 0, "layer", "weight_decay", "kl_factor")
        check(self, "1 or more", lambda value: value >= 1, "steps")
        check(self, "above 0", lambda value: value > 0, "lr", "clamp_norm_factor")

    def search(self, layer: int, settings: MemitSettings) -> MemitSettings:
        """Return the settings of the search for v* at `layer`; contexts are the model's own."""
        return replace(
            settings,
            layers=(layer,),
            steps=self.steps,
            lr=self.lr,
            clamp_norm_factor=self.clamp_norm_factor,
            weight_decay=self.weight_decay,
            kl_factor=self.kl_factor,
        )


def write_rome(task: Task, settings: RomeSettings, *, bare: bool = False) -> Deltas:
    """Return the delta of one layer, a rank-one factor for each request in order; `bare` as in the published code.

    Raises EditError where the covariance is singular, or a loss is not finite.
    """
    loaded, requests = task.loaded, task.requests
    if not requests:
        raise EditError("no requests to edit")
    layer = block_at(loaded, settings.layer, GPTJ_SHARE)
    search = settings.search(layer, task.settings)
    inverse = inverse_times(task.covariances([layer])[layer])
    left, right = [], []
    with hold_weights(loaded.family, loaded.model, [layer], masters=True) as held:
        base = held[layer].base
        exact = base.to("cpu", torch.float64)
        total = torch.zeros_like(exact)
        for number, request in enumerate(requests):
            key, mean_key, residual = keys_and_residual(task, RequestGroup((request,)), search)
            if not bare:
                residual = residual + (exact + total) @ (key - mean_key)  # v* - W k*
                key = mean_key
            u, v = rank_one(key, residual, inverse(mean_key))
            left.append(u)
            right.append(v)
            total += torch.outer(u, v)
            held[layer].put(with_delta(base, total))
            task.progress("rome", number + 1, len(requests))
    return {layer: WeightDelta(torch.stack(left, dim=1).float(), torch.stack(right).float())}


def rank_one(key: torch.Tensor, residual: torch.Tensor, weighted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the factors u [d], v [m] of delta = u v^T with delta k = residual, `weighted` being C^-1 k* [m]."""
    return residual / (key @ weighted), weighted


def keys_and_residual(
    task: Task, group: RequestGroup, settings: MemitSettings
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return k [m], k* [m] and v* - W k [d] of one request in the model as it stands, in float64 on the CPU.

    The search moves the block's output from h to z, and the down projection is to bring that about: v* - W k = z - h.
    Where a norm follows the down projection, that is taken back through the norm.
    """
    loaded, (layer,) = task.loaded, settings.layers
    (target,) = optimise_targets(loaded, [group], task.contexts, settings)
    with torch.no_grad():
        states = SubjectStates(loaded, [group], task.contexts)
        if layer:
            states.advance(0, layer - 1)
        bare, hidden = states.bare_keys_and_hidden(layer, layer)
        prefixed = states.prefixed_keys(layer)
        keys = bare if prefixed is None else torch.cat([bare, prefixed[:, 0]])
        residual = target.z.to(hidden.device).double()[:, None] - hidden.T
        norm = loaded.family.norm_behind(loaded.model, layer)
        if norm is not None:
            residual = before_norm(norm, states.given_to(norm, layer), residual)
    return bare[0].cpu(), keys.mean(0).cpu(), residual[:, 0].cpu()


def inverse_times(covariance: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what maps k [m] to C^-1 k [m], in float64 on the CPU; EditError where C [m, m] is singular."""
    C = covariance.to("cpu", torch.float64, copy=True)
    try:
        factor, _ = factorise(C, float(C.diagonal().mean()))
    except EditError as error:
        told = "the covariance is singular: take it over more text (--set covariance_tokens=...)"
        raise EditError(told) from error
    return lambda key: torch.cholesky_solve(key[:, None], factor)[:, 0]
