"""The closed form by its properties (Eqn. 14)."""

import pytest
import torch

from kbsync.errors import EditError
from kbsync.memit import solve
from kbsync.memit.solve import JITTERS

D, M, U = 5, 9, 4


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(m: int = M) -> torch.Tensor:
    """Of 3 m random keys, so positive definite."""
    keys = draw(m, 3 * m, seed=7)
    return keys @ keys.T / (3 * m)


K, R, C = draw(M, U, seed=1), draw(D, U, seed=2), covariance()


def objective(delta: torch.Tensor, lambda_: float) -> torch.Tensor:
    return ((delta @ K - R) ** 2).sum() + lambda_ * torch.trace(delta @ C @ delta.T)


@pytest.mark.parametrize("lambda_", [0.01, 1.0, 500.0])
def test_the_gradient_of_the_objective_is_zero_at_the_solution(lambda_: float) -> None:
    left, right, _ = solve(K, R, C, lambda_)
    delta = (left @ right).requires_grad_()
    start = torch.zeros_like(delta, requires_grad=True)
    (gradient,) = torch.autograd.grad(objective(delta, lambda_), delta)
    (at_start,) = torch.autograd.grad(objective(start, lambda_), start)
    assert float(gradient.norm()) < 1e-10 * float(at_start.norm())
    (gradient,) = torch.autograd.grad(objective(delta, 1.1 * lambda_), delta)  # of another lambda it is no minimum
    assert float(gradient.norm()) > 1e-5 * float(at_start.norm())


def test_the_factors_multiply_to_the_plain_formula() -> None:
    left, right, _ = solve(K, R, C, 2.0)
    assert (left.shape, right.shape) == ((D, U), (U, M))
    assert left.dtype == right.dtype == torch.float64
    plain = R @ K.T @ torch.linalg.inv(2.0 * C + K @ K.T)
    torch.testing.assert_close(left @ right, plain, rtol=1e-9, atol=1e-12)


def test_independent_keys_get_their_residual_as_lambda_goes_to_zero() -> None:
    missed = []
    for lambda_ in (1.0, 1e-3, 1e-6, 1e-9):
        left, right, _ = solve(K, R, C, lambda_)
        missed.append(float((left @ right @ K - R).norm() / R.norm()))
    assert missed == sorted(missed, reverse=True)
    assert missed[0] > 1e-2
    assert missed[-1] < 1e-6


def test_square_weights_are_not_turned() -> None:
    residual = draw(M, U, seed=3)
    left, right, _ = solve(K, residual, C, 1e-9)
    torch.testing.assert_close(left @ right @ K, residual, rtol=1e-5, atol=1e-5)
    assert not torch.allclose((left @ right).T @ K, residual, atol=0.1)


def test_square_keys_are_not_turned() -> None:
    keys, residual = draw(M, M, seed=4), draw(D, M, seed=5)
    left, right, _ = solve(keys, residual, C, 1e-9)
    torch.testing.assert_close(left @ right @ keys, residual, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(left @ right @ keys.T, residual, atol=0.1)


def test_float32_is_solved_in_float64() -> None:
    left, right, _ = solve(K, R, C, 1.0)
    other_left, other_right, _ = solve(K.float(), R.float(), C.float(), 1.0)
    assert other_left.dtype == other_right.dtype == torch.float64
    torch.testing.assert_close(other_left @ other_right, left @ right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("broken", [-100 * torch.eye(M), torch.zeros(M, M)])
def test_a_matrix_that_is_not_positive_definite_is_told(broken: torch.Tensor) -> None:
    keys = K.clone()
    keys[-1] = 0.0  # so that K K^T alone is exactly singular
    with pytest.raises(EditError, match=r"not positive definite: .* take it over more text"):
        solve(keys, R, broken, 1.0)


def test_a_matrix_that_is_not_finite_is_told() -> None:
    with pytest.raises(EditError, match=r"lambda C .* is not finite: use --dtype float32"):
        solve(K, R, torch.full((M, M), float("nan")), 1.0)


def singular(m: int, rank: int, seed: int) -> torch.Tensor:
    """A covariance of fewer keys than it has dimensions; rounding makes it slightly indefinite."""
    keys = draw(m, rank, seed=seed)
    return keys @ keys.T / rank


def test_no_jitter_where_none_is_needed() -> None:
    assert solve(K, R, C, 2.0).jitter == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("stored", [torch.float64, torch.float32])
def test_an_ill_conditioned_matrix_does_what_the_pseudo_solution_does(stored: torch.dtype, seed: int) -> None:
    m, rank = 40, 30
    covariance = singular(m, rank, seed)
    keys, residual = covariance @ draw(m, U, seed=seed + 50), draw(D, U, seed=seed + 90)  # keys in the range of C
    pseudo = residual @ keys.T @ torch.linalg.pinv(covariance + keys @ keys.T, rtol=1e-9, hermitian=True)
    kept = covariance.to(stored).double()
    assert stored == torch.float64 or torch.linalg.eigvalsh(kept + keys @ keys.T)[0] < 0
    left, right, jitter = solve(keys, residual, kept, 1.0)
    assert jitter in JITTERS
    assert stored == torch.float64 or jitter > 0
    assert float((left @ right @ keys - pseudo @ keys).norm() / (pseudo @ keys).norm()) < 1e-5


def test_the_ladder_ends() -> None:
    """A direction with a negative moment of a thousandth is damage, no rounding."""
    damaged = torch.eye(M, dtype=torch.float64)
    damaged[0, 0] = -1e-3
    keys = K.clone()
    keys[0] = 0.0
    with pytest.raises(EditError, match="not positive definite"):
        solve(keys, R, damaged, 1.0)
    damaged[0, 0] = -1e-9
    assert solve(keys, R, damaged, 1.0).jitter == 1e-8
