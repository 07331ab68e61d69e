"""Held facts: as columns of residual 0 would be, in the solve and over the layers."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from kbsync.benchmarks.plain import keys_and_hidden, mean_key, read_at_subject
from kbsync.memit import MemitSettings, RequestGroup, collect_covariances, spread
from kbsync.memit.holding import nearness
from kbsync.memit.solve import solve
from kbsync.models import LoadedModel
from tests.tiny_models import FACTS, TEXTS

CONTEXTS = ("{}", "In 1987. {}")
EDITS = [RequestGroup((replace(fact, target=other.target),)) for fact, other in pairwise(FACTS[:4])]
HELD = [RequestGroup((fact,)) for fact in FACTS[8:13]]


def key(known: LoadedModel, group: RequestGroup, layer: int, contexts: tuple[str, ...] = CONTEXTS) -> torch.Tensor:
    """Return the key [m] of a group's first request."""
    return mean_key(keys_and_hidden(known, contexts, group.requests[0], layer, layer)[0])


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("weight", [0.1, 1.0, 30.0])
def test_a_held_key_is_a_column_of_residual_zero(weight: float) -> None:
    K, K_h, r, root = drawn(12, 4), drawn(12, 3, seed=1), drawn(5, 4, seed=2), drawn(12, 40, seed=3)
    C = root @ root.T / 40
    found = solve(K, r, C, 2.0, None, K_h, weight)
    weights = torch.tensor([1.0] * 4 + [weight] * 3)
    plain = solve(torch.cat([K, K_h], 1), torch.cat([r, torch.zeros(5, 3)], 1), C, 2.0, weights)
    torch.testing.assert_close(found.left @ found.right, plain.left @ plain.right)
    assert (found.left.shape, found.right.shape) == ((5, 4), (4, 12))
    free = solve(K, r, C, 2.0)
    assert (found.left @ found.right @ K_h).norm() < (free.left @ free.right @ K_h).norm()


def given(known: LoadedModel, settings: MemitSettings) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
    """Targets at some distance, and covariances."""
    h = torch.stack([read_at_subject(known, "{}", one.requests[0], settings.layers[-1])[1] for one in EDITS])
    noise = drawn(*h.shape, seed=4).to(h)
    covariances, _ = collect_covariances(known, TEXTS, settings)
    ridged = {layer: C + 0.01 * C.diag().mean() * torch.eye(len(C)) for layer, C in covariances.items()}
    return h + 0.5 * h.norm(dim=1, keepdim=True) * noise / noise.norm(dim=1, keepdim=True), ridged


@pytest.mark.parametrize("sweeps", [1, 3])
def test_over_the_layers_as_written_out(known: LoadedModel, sweeps: int) -> None:
    settings = MemitSettings(layers=(0, 2), lambda_=2.0, sweeps=sweeps, hold_weight=0.5)
    z, covariances = given(known, settings)
    found = spread(known, EDITS, CONTEXTS, z, covariances, settings, held_groups=HELD)
    weight = {layer: known.family.weight(known.model, layer) for layer in settings.layers}
    base = {layer: value.clone() for layer, value in weight.items()}
    total = {layer: torch.zeros_like(value, dtype=torch.float64) for layer, value in base.items()}
    try:
        for _ in range(sweeps):
            for left, layer in zip((2, 1), settings.layers, strict=True):
                K = torch.stack([key(known, one, layer) for one in EDITS], dim=1)
                K_h = torch.stack([key(known, one, layer) for one in HELD], dim=1)
                h = torch.stack([read_at_subject(known, "{}", one.requests[0], 2)[1].double() for one in EDITS], dim=1)
                R = (z.double().T - h) / left + total[layer] @ K
                C = covariances[layer].double()
                A = 2.0 * C + K @ K.T + 0.5 * K_h @ K_h.T
                total[layer] = R @ K.T @ torch.linalg.inv(A)
                weight[layer].copy_((base[layer].double() + total[layer]).float())
    finally:
        for layer, value in base.items():
            weight[layer].copy_(value)
    for layer, delta in found.items():
        assert float((delta.matrix() - total[layer]).norm() / total[layer].norm()) < 1e-5
        assert delta.right.shape[0] == len(EDITS)


def test_what_is_held_moves_less(known: LoadedModel) -> None:
    settings = MemitSettings(layers=(0,), lambda_=2.0, hold_weight=10.0)
    z, covariances = given(known, settings)
    keys = torch.stack([key(known, one, 0) for one in HELD], dim=1).float()
    free = spread(known, EDITS, CONTEXTS, z, covariances, settings)[0].matrix() @ keys
    held = spread(known, EDITS, CONTEXTS, z, covariances, settings, held_groups=HELD)[0].matrix() @ keys
    assert float(held.norm()) < 0.2 * float(free.norm())


@pytest.mark.parametrize("layer", [0, 2])
def test_nearness_is_the_cosine_with_the_nearest_edit(known: LoadedModel, layer: int) -> None:
    found = nearness(known, EDITS, HELD, layer)
    edits, rest = (torch.stack([key(known, one, layer, ("{}",)) for one in groups]) for groups in (EDITS, HELD))
    cosines = torch.nn.functional.cosine_similarity(rest[:, None], edits[None], dim=-1)
    torch.testing.assert_close(found.double(), cosines.amax(1), rtol=1e-5, atol=1e-5)
