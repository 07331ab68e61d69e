"""Groups of one subject: searched together as the plain way does, and weighed together in the solve."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from kbsync.benchmarks.plain import plain_spread, plain_targets, read_at_subject
from kbsync.facts import EditRequest
from kbsync.memit import (
    MemitSettings,
    RequestGroup,
    Target,
    group_requests,
    optimise_targets,
    spread,
)
from kbsync.memit import targets as targets_module
from kbsync.models import LoadedModel
from tests.tiny_models import ridged

CONTEXTS = ("{}", "The river runs on. {}")
REQUESTS = [
    EditRequest("P36", "France", "The capital of {} is", "Oslo"),
    EditRequest("P37", "France", "In {}, one speaks", "a town in Peru"),
    EditRequest("P38", "France", "In {}, one pays in", "francs"),
    EditRequest("P36", "Saint Lucia", "The capital of {} is", "Lima"),
    EditRequest("P37", "Saint Lucia", "It is said of {} that it speaks", "Riga"),
    EditRequest("P36", "Norway", "The capital of {} is", "Accra"),
]
SETTINGS = MemitSettings(layers=(0, 1), steps=5, lr=1.0, coupling=3.0)


def deltas(loaded: LoadedModel, groups: Sequence[RequestGroup], found: Sequence[Target]) -> list[torch.Tensor]:
    h = [read_at_subject(loaded, "{}", group.requests[0], 1)[1] for group in groups]
    return [target.z - start for target, start in zip(found, h, strict=True)]


def of(groups: Sequence[RequestGroup], subject: str) -> list[int]:
    return [place for place, group in enumerate(groups) if group.requests[0].subject == subject]


def test_a_subjects_groups_are_searched_as_the_plain_way_does(tiny: LoadedModel) -> None:
    groups = group_requests(tiny, REQUESTS)
    assert [len(of(groups, subject)) for subject in ("France", "Saint Lucia", "Norway")] == [2, 2, 1]
    found = optimise_targets(tiny, groups, CONTEXTS, SETTINGS)
    moved = deltas(tiny, groups, found)
    for subject, steps in (("France", 7), ("Saint Lucia", 6), ("Norway", 5)):
        places = of(groups, subject)
        expected = plain_targets(tiny, [groups[place] for place in places], CONTEXTS, SETTINGS)
        for place, (z, losses) in zip(places, expected, strict=True):
            assert len(losses) == steps
            assert found[place].losses == pytest.approx(losses, abs=1e-4)
            assert float((found[place].z - z).norm() / moved[place].norm()) < 1e-3


def test_a_subject_is_never_parted_over_batches(known: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = group_requests(known, REQUESTS)
    whole = optimise_targets(known, groups, CONTEXTS, SETTINGS)
    monkeypatch.setitem(targets_module.TOKEN_BUDGET, "cpu", 1)
    handed: list[list[int]] = []
    parts = optimise_targets(
        known, groups, CONTEXTS, SETTINGS, lambda finished: handed.append(sorted(place for place, _ in finished))
    )
    assert sorted(handed) == sorted(of(groups, subject) for subject in ("France", "Saint Lucia", "Norway"))
    for one, other, delta in zip(whole, parts, deltas(known, groups, whole), strict=True):
        assert float((one.z - other.z).norm() / delta.norm()) < 1e-3


def test_a_stronger_coupling_brings_the_deltas_together_and_none_searches_each_alone(known: LoadedModel) -> None:
    groups = group_requests(known, REQUESTS[:3])
    settings = replace(SETTINGS, steps=20, lr=0.05)

    def distance(coupling: float) -> float:
        found = optimise_targets(known, groups, CONTEXTS, replace(settings, coupling=coupling))
        one, other = deltas(known, groups, found)
        return float((one - other).norm())

    assert distance(100.0) < 0.5 * distance(1.0) < 0.5 * distance(0.0)
    none = replace(settings, coupling=0.0, steps=5)
    together = optimise_targets(known, groups, CONTEXTS, none)
    for group, target in zip(groups, together, strict=True):
        (alone,) = optimise_targets(known, [RequestGroup(group.requests)], CONTEXTS, none)
        assert len(target.losses) == len(alone.losses) == none.group_steps(len(group.requests))
        assert target.losses == pytest.approx(alone.losses, abs=1e-4)


def test_uncoupled_a_group_that_is_done_does_not_wait_for_its_subjects_others(known: LoadedModel) -> None:
    groups = group_requests(known, REQUESTS[:3])
    free = replace(SETTINGS, steps=20, lr=0.05, coupling=0.0)
    first = [target.losses[1] for target in optimise_targets(known, groups, CONTEXTS, replace(free, steps=2))]
    assert min(first) < max(first)
    found = optimise_targets(known, groups, CONTEXTS, free, stop_loss=sum(first) / 2)  # one is under it at once
    assert sorted(len(target.losses) for target in found)[0] < free.steps
    assert len({len(target.losses) for target in found}) == 2


@pytest.mark.parametrize("sweeps", [1, 3])
def test_groups_whose_subject_has_others_weigh_more_in_the_solve(tiny: LoadedModel, sweeps: int) -> None:
    settings = MemitSettings(layers=(0, 1), lambda_=20.0, sweeps=sweeps, emphasis=3.0, group_weight=10.0)
    groups = group_requests(tiny, REQUESTS)
    h = torch.stack([read_at_subject(tiny, "{}", one.requests[0], 1)[1] for one in groups])
    z = h + 0.3 * torch.randn(h.shape, generator=torch.Generator().manual_seed(2))
    covariances = ridged(tiny, settings)
    found = spread(tiny, groups, CONTEXTS, z, covariances, settings)
    expected, _ = plain_spread(tiny, groups, CONTEXTS, z, covariances, settings)
    light = spread(tiny, groups, CONTEXTS, z, covariances, replace(settings, group_weight=1.0))
    for layer, delta in found.items():
        assert float((delta.matrix() - expected[layer]).norm() / expected[layer].norm()) < 1e-4
        assert float((delta.matrix() - light[layer].matrix()).norm() / expected[layer].norm()) > 1e-2
