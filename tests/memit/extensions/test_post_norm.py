"""A norm behind the MLP: the point that the block can come to, and edits through it."""

import pytest
import torch
from torch import nn

from kbsync.benchmarks.plain import read_at_subject
from kbsync.facts import EditRequest
from kbsync.memit import MemitSettings, RequestGroup, collect_covariances, edited, spread
from kbsync.memit.extensions.post_norm import before_norm
from kbsync.models import LoadedModel, capture
from tests.tiny_models import TEXTS, random_model

D, U = 24, 7
REQUEST = EditRequest("P1", "Ekrem İmamoğlu", "{} is the mayor of", "a town")


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class LessOne(nn.Module):
    """An RMS norm in float64 that keeps its gains as g - 1, as Gemma does; they differ widely."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = normal(D, seed=1).exp() - 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (1 + self.weight) * x / x.pow(2).mean(-1, keepdim=True).sqrt()


@pytest.fixture
def norm() -> LessOne:
    return LessOne()


@pytest.mark.parametrize("size", [0.1, 1.0, 10.0, 1000.0])
def test_no_direction_comes_nearer_to_the_residual(norm: LessOne, size: float) -> None:
    norm.weight[3] = -1.0  # a gain of 0: this dimension cannot be moved
    v, r = 3 * normal(D, U, seed=2), size * normal(D, U, seed=3)
    t = norm(v.T).T + r
    found = v + before_norm(norm, v, r)
    torch.testing.assert_close(found.norm(dim=0), v.norm(dim=0))
    leaf = found.clone().requires_grad_()
    missing = (norm(leaf.T).T - t).pow(2).sum(0)
    outside = (t / (1 + norm.weight)[:, None]).nan_to_num(posinf=0, neginf=0).pow(2).mean(0) > 1
    (slope,) = torch.autograd.grad(missing.sum(), leaf)
    relative = slope.norm(dim=0) * v.norm(dim=0) / missing.detach()
    assert outside.any()
    assert float(relative[outside].max()) < 1e-6
    best = missing.detach()[outside]
    for seed in range(10, 30):
        for share in (0.01, 0.3, 3.0):
            other = found + share * normal(D, U, seed=seed) * v.norm(dim=0) / D**0.5
            assert bool(((norm(other.T).T - t).pow(2).sum(0)[outside] >= best).all())


def test_a_target_that_can_be_reached_is_reached(norm: LessOne) -> None:
    v, wanted = 3 * normal(D, U, seed=2), norm(normal(U, D, seed=4)).T
    found = v + before_norm(norm, v, wanted - norm(v.T).T)
    torch.testing.assert_close(norm(found.T).T, wanted, rtol=0, atol=1e-6)


def test_no_residual_asks_for_no_change(norm: LessOne) -> None:
    v = 3 * normal(D, U, seed=2)
    torch.testing.assert_close(before_norm(norm, v, torch.zeros_like(v)), torch.zeros_like(v), rtol=0, atol=1e-6)


def test_by_hand() -> None:
    """Two dimensions, gains 1: v points along the first, the target along the second."""
    norm = nn.RMSNorm(2, eps=0.0, dtype=torch.float64)
    v = torch.tensor([[5.0], [0.0]], dtype=torch.float64)  # y = (sqrt(2), 0)
    r = torch.tensor([[-(2**0.5)], [9.0]], dtype=torch.float64)  # t = (0, 9)
    torch.testing.assert_close(before_norm(norm, v, r), torch.tensor([[-5.0], [5.0]], dtype=torch.float64))


@pytest.mark.parametrize("name", ["gemma2", "gemma3_text", "olmo2"])
@pytest.mark.parametrize("sweeps", [1, 3])
def test_an_edit_comes_to_a_target_behind_the_norm(
    name: str, sweeps: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    loaded: LoadedModel = random_model(tmp_path_factory.getbasetemp(), name)
    norm = loaded.family.norm_behind(loaded.model, 1)
    assert norm is not None
    with capture(norm) as added:
        h = read_at_subject(loaded, "{}", REQUEST, 1)[1]
    ids = loaded.tokenizer("Ekrem İmamoğlu")["input_ids"]
    y = added.value[0, len(ids) - 1]
    z = h - y + norm(normal(len(h), seed=5).float())
    settings = MemitSettings(layers=(1,), lambda_=1e-4, sweeps=sweeps)
    covariances, _ = collect_covariances(loaded, TEXTS, settings)
    with edited(loaded, spread(loaded, [RequestGroup((REQUEST,))], ("{}",), z[None], covariances, settings)):
        reached = read_at_subject(loaded, "{}", REQUEST, 1)[1]
    assert float((reached - z).norm() / (h - z).norm()) < 1e-3
