"""Keys that are to stay: as columns of residual 0 would be, in the solve and over the layers."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from kbsync.benchmarks.plain import keys_and_hidden, mean_key, read, read_at_subject
from kbsync.memit import MemitSettings, RequestGroup, collect_covariances, spread
from kbsync.memit.extensions.preserved_keys import preserved_moments
from kbsync.memit.solve import solve
from kbsync.models import LoadedModel, capture
from tests.tiny_models import FACTS, TEXTS

CONTEXTS = ("{}", "In 1987. {}")
EDITS = [RequestGroup((replace(fact, target=other.target),)) for fact, other in pairwise(FACTS[:4])]


def key(known: LoadedModel, group: RequestGroup, layer: int, contexts: tuple[str, ...] = CONTEXTS) -> torch.Tensor:
    """Return the key [m] of a group's first request."""
    return mean_key(keys_and_hidden(known, contexts, group.requests[0], layer, layer)[0])


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("weight", [0.1, 1.0, 30.0])
def test_a_preserved_key_is_a_column_of_residual_zero(weight: float) -> None:
    K, K_h, r, root = drawn(12, 4), drawn(12, 3, seed=1), drawn(5, 4, seed=2), drawn(12, 40, seed=3)
    C = root @ root.T / 40
    found = solve(K, r, C, 2.0, weight * K_h @ K_h.T)
    plain = solve(torch.cat([K, weight**0.5 * K_h], 1), torch.cat([r, torch.zeros(5, 3)], 1), C, 2.0)
    torch.testing.assert_close(found.left @ found.right, plain.left @ plain.right)
    assert (found.left.shape, found.right.shape) == ((5, 4), (4, 12))
    free = solve(K, r, C, 2.0)
    assert (found.left @ found.right @ K_h).norm() < (free.left @ free.right @ K_h).norm()


def keys_at(known: LoadedModel, group: RequestGroup, layer: int) -> torch.Tensor:
    """Return the keys [T, m] of a group's bare prompts with their objects, but for the first token and S."""
    found = []
    for request in group.requests:
        text = read(known, "{}", request, request.target)
        with capture(known.family.down_projection(known.model, layer), inputs=True) as keys:
            known.model(torch.tensor([text.ids]))
        places = [place for place in range(len(text.ids)) if place not in (0, text.place)]
        found.append(keys.value.detach()[0, places].double())
    return torch.cat(found)


def written_out(known: LoadedModel, settings: MemitSettings, layer: int) -> torch.Tensor:
    """Return the weighted sum of k k^T, key by key."""
    keys = torch.cat([keys_at(known, group, layer) for group in EDITS])
    return settings.rest_weight * keys.T @ keys


def test_every_token_but_the_subjects_last_is_kept(known: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kbsync.memit.extensions.preserved_keys.TOKEN_BUDGET", 40)
    settings = MemitSettings(layers=(0, 2), rest_weight=0.3)
    found = preserved_moments(known, EDITS, settings)
    for layer in settings.layers:
        torch.testing.assert_close(found[layer], written_out(known, settings, layer), rtol=1e-5, atol=1e-6)
    assert preserved_moments(known, EDITS, MemitSettings(layers=(0,))) == {}


def given(known: LoadedModel, settings: MemitSettings) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
    """Targets at some distance, and covariances."""
    h = torch.stack([read_at_subject(known, "{}", one.requests[0], settings.layers[-1])[1] for one in EDITS])
    noise = drawn(*h.shape, seed=4).to(h)
    covariances, _ = collect_covariances(known, TEXTS, settings)
    ridged = {layer: C + 0.01 * C.diag().mean() * torch.eye(len(C)) for layer, C in covariances.items()}
    return h + 0.5 * h.norm(dim=1, keepdim=True) * noise / noise.norm(dim=1, keepdim=True), ridged


@pytest.mark.parametrize("sweeps", [1, 3])
def test_over_the_layers_as_written_out(known: LoadedModel, sweeps: int) -> None:
    plain = MemitSettings(layers=(0, 2), lambda_=2.0, sweeps=sweeps)
    settings = plain.with_values({"rest_weight": 0.3})
    z, covariances = given(known, settings)
    found = spread(known, EDITS, CONTEXTS, z, covariances, settings)
    stays = {layer: written_out(known, settings, layer) for layer in settings.layers}
    weight = {layer: known.family.weight(known.model, layer) for layer in settings.layers}
    base = {layer: value.clone() for layer, value in weight.items()}
    total = {layer: torch.zeros_like(value, dtype=torch.float64) for layer, value in base.items()}
    try:
        for _ in range(sweeps):
            for left, layer in zip((2, 1), settings.layers, strict=True):
                K = torch.stack([key(known, one, layer) for one in EDITS], dim=1)
                h = torch.stack([read_at_subject(known, "{}", one.requests[0], 2)[1].double() for one in EDITS], dim=1)
                R = (z.double().T - h) / left + total[layer] @ K
                C = covariances[layer].double()
                A = 2.0 * C + K @ K.T + stays[layer]
                total[layer] = R @ K.T @ torch.linalg.inv(A)
                weight[layer].copy_((base[layer].double() + total[layer]).float())
    finally:
        for layer, value in base.items():
            weight[layer].copy_(value)
    for layer, delta in found.items():
        assert float((delta.matrix() - total[layer]).norm() / total[layer].norm()) < 1e-5
        assert delta.right.shape[0] == len(EDITS)


def test_what_is_kept_moves_less(known: LoadedModel) -> None:
    settings = MemitSettings(layers=(0,), lambda_=2.0)
    z, covariances = given(known, settings)
    keys = torch.cat([keys_at(known, one, 0) for one in EDITS]).T.float()
    free = spread(known, EDITS, CONTEXTS, z, covariances, settings)[0].matrix() @ keys
    with_weight = replace(settings, rest_weight=10.0)
    kept = spread(known, EDITS, CONTEXTS, z, covariances, with_weight)[0].matrix() @ keys
    assert float(kept.norm()) < 0.3 * float(free.norm())
