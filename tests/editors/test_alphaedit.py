"""AlphaEdit against its paper's equation, and by what its projection is for."""

from dataclasses import replace

import pytest
import torch

from kbsync.editors.alphaedit import AlphaEditSettings, null_space, projected_solve, write_alphaedit
from kbsync.errors import EditError
from kbsync.memit import WeightDelta
from kbsync.models import LoadedModel
from tests.editors.tasks import make_task, swapped

M, D, U = 12, 5, 4


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance() -> torch.Tensor:
    """Of keys that lie in 7 of 12 directions but for a little."""
    keys = drawn(200, 7, seed=1) @ drawn(7, M, seed=2)
    return keys.T @ keys / 200 + 1e-6 * torch.eye(M, dtype=torch.float64)


@pytest.mark.parametrize("with_earlier", [False, True])
def test_it_is_the_papers_equation(with_earlier: bool) -> None:
    C, K, r, K_p = covariance(), drawn(M, U, seed=3), drawn(D, U, seed=4), drawn(M, 6, seed=5)
    moments = K_p @ K_p.T if with_earlier else torch.zeros(M, M, dtype=torch.float64)
    found = projected_solve(0, K, r, C, moments if with_earlier else None, AlphaEditSettings(alpha=3.0))
    values, vectors = torch.linalg.eigh(C)
    P = vectors[:, values < 0.02] @ vectors[:, values < 0.02].T
    identity = 3.0 * torch.eye(M, dtype=torch.float64)
    expected = r @ K.T @ P @ torch.linalg.inv(moments @ P + K @ K.T @ P + identity)
    assert torch.allclose(found.left @ found.right, expected, atol=1e-10)


def test_what_is_kept_goes_to_zero() -> None:
    C, K, r = covariance(), drawn(M, U, seed=3), drawn(D, U, seed=4)
    values, vectors = torch.linalg.eigh(C)
    assert int((values >= 0.02).sum()) == 7
    left, right, _ = projected_solve(0, K, r, C, None, AlphaEditSettings())
    delta = left @ right
    assert float((delta @ vectors[:, values >= 0.02]).norm() / delta.norm()) < 1e-12
    small = projected_solve(0, K, r, C, None, AlphaEditSettings(alpha=1e-9))
    assert torch.allclose(small.left @ small.right @ K, r, atol=1e-6)  # and yet the requests are met


def test_earlier_keys_move_less() -> None:
    C, K, r, K_p = covariance(), drawn(M, U, seed=3), drawn(D, U, seed=4), drawn(M, 1, seed=5)
    own = AlphaEditSettings(alpha=0.1)
    without = projected_solve(0, K, r, C, None, own)
    held = projected_solve(0, K, r, C, 100 * K_p @ K_p.T, own)
    moved, less = (solution.left @ solution.right @ K_p for solution in (without, held))
    assert float(less.norm()) < 0.1 * float(moved.norm())


def test_the_model_keeps_what_its_text_needs(known: LoadedModel) -> None:
    task = make_task(known, swapped(3))
    deltas = write_alphaedit(task, AlphaEditSettings(threshold=0.05, alpha=0.01))
    covariances = task.covariances([1, 2])
    for layer, delta in deltas.items():
        assert isinstance(delta, WeightDelta)
        left = null_space(covariances[layer], 0.05)
        assert 0 < left.shape[1] < len(left)
        matrix = delta.matrix().double()
        kept = torch.eye(len(left), dtype=torch.float64) - left @ left.T
        assert float((matrix @ kept).norm() / matrix.norm()) < 1e-5


def test_an_empty_null_space_is_refused(known: LoadedModel) -> None:
    task = replace(make_task(known, swapped(1)), covariances=lambda layers: {layer: torch.eye(256) for layer in layers})
    with pytest.raises(EditError, match="layer 1: no eigenvalue of the covariance is below the threshold"):
        write_alphaedit(task, AlphaEditSettings())
