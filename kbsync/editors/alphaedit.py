"""AlphaEdit (Fang et al. 2024, arXiv 2410.02355): MEMIT's solve, kept out of the directions that ordinary keys take.

C = U S U^T. P projects on the eigenvectors whose eigenvalue is small, the null space of what is to be kept; its
Eqn. 14, with K_p the keys of earlier edits, is

    delta = r K^T P (K_p K_p^T P + K K^T P + alpha I)^-1

With U_0 [m, q] the eigenvectors that are left, P = U_0 U_0^T and k' = U_0^T k, this is Eqn. 14 of MEMIT in the q
dimensions of the null space, delta = r K'^T (K_p' K_p'^T + alpha I + K' K'^T)^-1 U_0^T, so the same Cholesky solves it.

NAS, norm-anchor scaling (Liu et al. 2026, arXiv 2602.02543): AlphaEdit's solve for values of the usual size.

With h the block's output at S, v0 what its MLP adds there, and delta what the search found, v* = v0 + delta. NAS scales
v* to n, the mean |v*| of requests to the unedited model without the largest twentieth, and leaves the value as it was
where |v*| > 2 n:

    z = (h - v0) + n v* / |v*|

Its published code takes n over CounterFact's requests; here it is over the requests of the task itself, which kbsync
always searches on the unedited model. What the paper is about, edits upon edits whose norms grow, does not come up:
every state is made from the base.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from kbsync.editors.editor import Deltas, Task, check
from kbsync.errors import EditError
from kbsync.memit import MemitSettings, RequestGroup, optimise_targets, solve, spread
from kbsync.memit.keys import SubjectStates
from kbsync.memit.solve import Solution


@dataclass(frozen=True, slots=True)
class AlphaEditSettings:
    """AlphaEdit's settings; the defaults are those published for GPT-J. R and the search are the model's own."""

    threshold: float = 0.02
    """eigenvectors of C with an eigenvalue under this span the null space; keys of a small model are of another size"""
    alpha: float = 10.0
    """weight of |delta|^2; the paper's equation has 1, its published code 10"""

    def __post_init__(self) -> None:
        check(self, "above 0", lambda value: value > 0, "threshold", "alpha")


def write_alphaedit(task: Task, own: AlphaEditSettings) -> Deltas:
    """Return the delta of each layer of R: MEMIT's layer loop, once, each request for itself, projected.

    Target vectors that the task has are not searched again, if each of its groups is one request. Raises EditError
    where a null space is empty.
    """
    groups, settings, z = own_targets(task)
    covariances = task.covariances(settings.layers)

    def projected(layer: int, keys: torch.Tensor, residual: torch.Tensor) -> Solution:
        return projected_solve(layer, keys, residual, covariances[layer], task.earlier.get(layer), own)

    return spread(task.loaded, groups, task.contexts, z, covariances, settings, task.progress, solver=projected)


def projected_solve(
    layer: int,
    keys: torch.Tensor,
    residual: torch.Tensor,
    covariance: torch.Tensor,
    earlier: torch.Tensor | None,
    own: AlphaEditSettings,
) -> Solution:
    """Return the projected solution for a layer's K [m, u] and r [d, u]; `earlier` is K_p K_p^T [m, m]."""
    basis = null_space(covariance.to(keys.device), own.threshold)
    if not basis.shape[1]:
        raise EditError(
            f"layer {layer}: no eigenvalue of the covariance is below the threshold: use a larger threshold"
        )
    held = own.alpha * torch.eye(basis.shape[1], dtype=torch.float64, device=keys.device)
    if earlier is not None:
        held += basis.T @ earlier.to(basis) @ basis
    left, right, jitter = solve(basis.T @ keys.double(), residual, held, 1.0)
    return Solution(left, right @ basis.T, jitter)


def own_targets(task: Task) -> tuple[list[RequestGroup], MemitSettings, torch.Tensor]:
    """Return each request as a group, the settings of one sweep, and the targets z [u, d], searched where need be."""
    groups, settings = task.alone(), replace(task.settings, sweeps=1)
    z = task.z if list(task.groups) == groups else None
    if z is None:
        found = optimise_targets(task.loaded, groups, task.contexts, settings, progress=task.progress)
        z = torch.stack([target.z for target in found])
    return groups, settings, z


def null_space(covariance: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return the eigenvectors [m, q], in float64, of C [m, m] with an eigenvalue under the threshold."""
    values, vectors = torch.linalg.eigh(covariance.double())
    kept: torch.Tensor = vectors[:, values < threshold]
    return kept


@dataclass(frozen=True, slots=True)
class NasSettings(AlphaEditSettings):
    """AlphaEdit's settings and NAS's own; the defaults are those published for GPT-J."""

    dropped: float = 0.05
    """share of the largest |v*| that n is taken without"""
    skipped: float = 2.0
    """a v* of more than this times n is left out"""

    def __post_init__(self) -> None:
        check(self, "above 0", lambda value: value > 0, "threshold", "alpha", "skipped")
        check(self, "from 0 to below 1", lambda value: 0 <= value < 1, "dropped")


def write_nas(task: Task, own: NasSettings) -> Deltas:
    """Return AlphaEdit's deltas for anchored values; raises as it does, and for a model with a norm behind the MLP."""
    groups, settings, z = own_targets(task)
    layer = settings.layers[-1]
    if task.loaded.family.norm_behind(task.loaded.model, layer) is not None:
        raise EditError("NAS scales what an MLP adds, and this model has a norm behind its MLPs")
    hidden, added = at_subject(task, groups, layer)
    values = anchored(added + (z.double() - hidden), added, own.dropped, own.skipped)
    targets = (hidden - added + values).to(z)
    return write_alphaedit(replace(task, groups=groups, z=targets), own)


def anchored(values: torch.Tensor, before: torch.Tensor, dropped: float, skipped: float) -> torch.Tensor:
    """Return the values v* [u, d] scaled to the mean norm n; those too large become what was there `before`."""
    norms = values.norm(dim=1)
    kept = norms.sort().values[: len(norms) - int(dropped * len(norms))]
    n = kept.mean()
    return torch.where((norms > skipped * n)[:, None], before, values * (n / norms)[:, None])


@torch.no_grad()
def at_subject(task: Task, groups: Sequence[RequestGroup], layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a block's output and what its MLP adds at S of the bare prompts, both [u, d] in float64 on the CPU."""
    states = SubjectStates(task.loaded, groups, ("{}",))
    if layer:
        states.advance(0, layer - 1)
    keys, hidden = states.bare_keys_and_hidden(layer, layer)
    added = keys @ task.loaded.weight(layer).to(keys).T
    bias = getattr(task.loaded.family.down_projection(task.loaded.model, layer), "bias", None)
    return hidden.cpu(), (added if bias is None else added + bias.to(added)).cpu()
