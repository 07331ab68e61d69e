"""The closed form of MEMIT's update (Eqn. 14). Torch algebra in float64, nothing else."""

import torch

from kbsync.errors import EditError

__all__ = ["solve"]


def solve(
    keys: torch.Tensor,
    residual: torch.Tensor,
    covariance: torch.Tensor,
    lambda_: float,
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return delta = r W K^T (lambda C + K W K^T)^-1 (Eqn. 14) as factors: left [d, u], right [u, m], float64.

    `keys` is K [m, u], `residual` is r [d, u], `covariance` is C [m, m]; `weights` [u] is the diagonal of W, ones
    (the paper) by default. The delta is the minimiser of sum_i w_i |delta k_i - r_i|^2 + lambda tr(delta C delta^T).
    Raises EditError where the matrix is not positive definite.
    """
    k = keys.double()
    weighted = k if weights is None else k * weights.double()
    matrix = lambda_ * covariance.double() + weighted @ k.T
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed.item():
        raise EditError(
            "lambda C + K K^T is not positive definite: the covariance has seen too few tokens for its size;"
            " take it over more text (--set covariance_tokens=...)"
        )
    return residual.double(), torch.cholesky_solve(weighted, factor).T
