"""The closed form of MEMIT's update (Eqn. 14). Torch algebra in float64, nothing else."""

from typing import NamedTuple

import torch

from kbsync.errors import EditError

JITTERS = (0.0, 1e-12, 1e-10, 1e-8, 1e-6)
"""shares of lambda C's mean diagonal that are added to the diagonal: the first with which Cholesky succeeds is taken"""


class Solution(NamedTuple):
    """A layer's delta as factors, left [d, u] @ right [u, m], in float64."""

    left: torch.Tensor
    right: torch.Tensor
    jitter: float
    """which of `JITTERS` was needed; 0 is none"""


def solve(
    keys: torch.Tensor,
    residual: torch.Tensor,
    covariance: torch.Tensor,
    lambda_: float,
    preserved: torch.Tensor | None = None,
) -> Solution:
    """Return delta = r K^T (lambda C + K K^T)^-1 (Eqn. 14).

    `keys` is K [m, u], `residual` is r [d, u], `covariance` is C [m, m]. All lie on one device, where the delta will
    be. The delta is the minimiser of sum_i |delta k_i - r_i|^2 + lambda tr(delta C delta^T).
    `preserved` [m, m] is a weighted sum of k k^T over keys that are to stay: each adds w |delta k|^2, as a column of
    residual 0 would, so the matrix becomes lambda C + preserved + K K^T, and the factors stay those of u columns.
    Raises EditError where the matrix is not positive definite, whichever of `JITTERS` is added.
    """
    k = keys.double()
    prior = lambda_ * covariance.double()
    mean = float(prior.diagonal().mean())
    if preserved is not None:
        prior += preserved
    factor, jitter = factorise(prior.addmm_(k, k.T), mean)
    return Solution(residual.double(), torch.cholesky_solve(k, factor).T, jitter)


def factorise(matrix: torch.Tensor, mean: float) -> tuple[torch.Tensor, float]:
    """Return the lower Cholesky factor of `matrix`, which may be written to, and the jitter that it needed."""
    added = 0.0
    for jitter in JITTERS:
        matrix.diagonal().add_((jitter - added) * mean)
        added = jitter
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if not failed.item():
            return factor, jitter
    if not torch.isfinite(matrix).all():
        raise EditError("lambda C + K K^T is not finite: use --dtype float32 for the keys and the covariance")
    raise EditError(
        f"lambda C + K K^T is not positive definite: where the covariance has seen fewer than ten tokens for each of"
        f" its {len(matrix)} dimensions, take it over more text (--set covariance_tokens=...); else it is damaged,"
        " so take it anew"
    )
