"""The layer loop against Algorithm 1 written out: full forwards, no stored states, a plain inverse."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean

import pytest
import torch

from kbsync.benchmarks.plain import keys_and_hidden, mean_key, plain_spread, read_at_subject
from kbsync.errors import EditError
from kbsync.facts import EditRequest
from kbsync.memit import (
    MemitSettings,
    RequestGroup,
    edited,
    optimise_targets,
    spread,
)
from kbsync.memit.keys import SubjectStates
from kbsync.memit.solve import Solution, solve
from kbsync.memit.spread import key_weights
from kbsync.models import LoadedModel, score_targets
from tests.tiny_models import FACTS, ridged

CONTEXTS = ("{}", "The river runs on. {}", "In 1987. {}")
GROUPS = [
    RequestGroup((EditRequest("P1", "France", "The capital of {} is", "Oslo"),)),
    RequestGroup((EditRequest("P2", "Ekrem İmamoğlu", "{} is the mayor of", "a town"),)),
    RequestGroup(
        (
            EditRequest("P3", "Saint Lucia", "It is said that {} sits in", "Lima"),
            EditRequest("P4", "Saint Lucia", "It is said that {} is", "x"),
        )
    ),
    RequestGroup((EditRequest("P5", "N'Djamena", "Far from {} there is", "Riga"),)),
]


@dataclass
class Work:
    """What `spread` is given."""

    loaded: LoadedModel
    groups: Sequence[RequestGroup]
    contexts: Sequence[str]
    z: torch.Tensor
    covariances: Mapping[int, torch.Tensor]
    settings: MemitSettings

    @property
    def arguments(
        self,
    ) -> tuple[
        LoadedModel, Sequence[RequestGroup], Sequence[str], torch.Tensor, Mapping[int, torch.Tensor], MemitSettings
    ]:
        return self.loaded, self.groups, self.contexts, self.z, self.covariances, self.settings


def work(loaded: LoadedModel, settings: MemitSettings, contexts: Sequence[str] = CONTEXTS) -> Work:
    """Targets at some distance from where the hidden states are."""
    h = torch.stack([read_at_subject(loaded, "{}", one.requests[0], settings.layers[-1])[1] for one in GROUPS])
    noise = torch.randn(h.shape, generator=torch.Generator().manual_seed(5))
    z = h + 0.5 * h.norm(dim=1, keepdim=True) * noise / noise.norm(dim=1, keepdim=True)
    return Work(loaded, GROUPS, contexts, z, ridged(loaded, settings), settings)


def assert_plain(given: Work) -> None:
    """Check the deltas against the plain ones."""
    found = spread(*given.arguments)
    expected = plain_spread(*given.arguments)
    assert list(found) == list(given.settings.layers)
    for layer, delta in found.items():
        wanted = expected[layer]
        assert float((delta.matrix() - wanted).norm() / wanted.norm()) < 1e-5
        assert delta.left.dtype == delta.right.dtype == torch.float32
        assert delta.left.shape[1] == delta.right.shape[0] == len(given.groups)


@pytest.mark.parametrize("layers", [(0, 2), (1, 2), (2,), (0, 1, 2)])
def test_one_sweep_is_algorithm_1(tiny: LoadedModel, layers: tuple[int, ...]) -> None:
    assert_plain(work(tiny, MemitSettings(layers=layers, lambda_=2.0)))


@pytest.mark.parametrize("layers", [(0, 2), (1, 2)])
def test_further_sweeps_solve_for_the_total_delta(tiny: LoadedModel, layers: tuple[int, ...]) -> None:
    assert_plain(work(tiny, MemitSettings(layers=layers, lambda_=2.0, sweeps=3)))


@pytest.mark.parametrize("contexts", [CONTEXTS[:1], CONTEXTS[:2]])
def test_with_one_or_two_contexts(tiny: LoadedModel, contexts: Sequence[str]) -> None:
    assert_plain(work(tiny, MemitSettings(layers=(0, 1), lambda_=2.0, sweeps=2), contexts))


def test_edits_become_likely(known: LoadedModel) -> None:
    groups = [RequestGroup((replace(fact, target=other.target),)) for fact, other in pairwise(FACTS[:9])]
    settings = MemitSettings(layers=(0,), lambda_=0.1, steps=25, clamp_norm_factor=3.0)
    z = torch.stack([target.z for target in optimise_targets(known, groups, CONTEXTS[:1], settings)])
    triples = [(one.prompt, one.subject, one.target) for group in groups for one in group.requests]
    base = score_targets(known, triples)
    with edited(known, spread(known, groups, CONTEXTS[:1], z, ridged(known, settings), settings)):
        after = score_targets(known, triples)
    assert all(new.log_prob > old.log_prob for old, new in zip(base, after, strict=True))
    assert fmean(new.log_prob - old.log_prob for old, new in zip(base, after, strict=True)) > 1


@pytest.mark.parametrize("sweeps", [1, 3])
def test_the_edited_model_has_the_targets(tiny: LoadedModel, sweeps: int) -> None:
    """With a small lambda, h^L of the bare prompts comes to z, or as near as a norm behind the MLP lets it."""
    given = work(tiny, MemitSettings(layers=(0, 1), lambda_=1e-3, sweeps=sweeps), CONTEXTS[:1])
    start = torch.stack([read_at_subject(tiny, "{}", one.requests[0], 1)[1] for one in GROUPS])
    with edited(tiny, spread(*given.arguments)):
        h = torch.stack([read_at_subject(tiny, "{}", one.requests[0], 1)[1] for one in GROUPS])
    assert float((h - given.z).norm() / (start - given.z).norm()) < (0.8 if tiny.family.post_norm else 1e-3)


@pytest.mark.parametrize("contexts", [CONTEXTS, CONTEXTS[:1], CONTEXTS[:2]])
@pytest.mark.parametrize("layer", [0, 2])
def test_a_key_is_half_the_bare_prompts_and_half_the_prefixed_ones(
    tiny: LoadedModel, layer: int, contexts: Sequence[str]
) -> None:
    states = SubjectStates(tiny, GROUPS, contexts)
    if layer:
        states.advance(0, layer - 1)
    keys, hidden = states.keys_and_hidden(layer, 2)
    for place, group in enumerate(GROUPS):
        expected = mean_key(keys_and_hidden(tiny, contexts, group.requests[0], 2, layer)[0])
        torch.testing.assert_close(keys[:, place], expected, rtol=1e-5, atol=1e-5)
        h = read_at_subject(tiny, "{}", group.requests[0], 2)[1].double()
        torch.testing.assert_close(hidden[:, place], h, rtol=1e-5, atol=1e-5)


def test_how_prompts_are_batched_does_not_matter(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    given = work(tiny, MemitSettings(layers=(0, 2), lambda_=2.0, sweeps=2))
    whole = spread(*given.arguments)
    monkeypatch.setattr(importlib.import_module("kbsync.memit.fast.shared_rows"), "TOKEN_BUDGET", 30)
    assert all(len(rows.batches) > 1 for rows in SubjectStates(tiny, GROUPS, CONTEXTS).every)
    parts = spread(*given.arguments)
    for layer, delta in whole.items():
        assert float((parts[layer].matrix() - delta.matrix()).norm() / delta.matrix().norm()) < 1e-5


def test_progress_tells_every_solve(tiny: LoadedModel) -> None:
    given = work(tiny, MemitSettings(layers=(0, 2), sweeps=2))
    told: list[tuple[str, int, int]] = []
    spread(*given.arguments, lambda *seen: told.append(seen))
    assert told == [("solve", done, 4) for done in (1, 2, 3, 4)]


@pytest.mark.parametrize("sweeps", [1, 3])
def test_the_weights_are_afterwards_those_of_before(tiny: LoadedModel, sweeps: int) -> None:
    before = {name: value.clone() for name, value in tiny.model.named_parameters()}
    ids = torch.tensor([[5, 9, 60]])
    plain = tiny.model(ids).logits
    spread(*work(tiny, MemitSettings(layers=(0, 1), lambda_=0.1, sweeps=sweeps)).arguments)
    for name, value in tiny.model.named_parameters():
        assert torch.equal(value.view(torch.int32), before[name].view(torch.int32)), name  # the sign of 0 too
    assert torch.equal(tiny.model(ids).logits, plain)


def test_the_weights_are_as_before_when_a_solve_fails(tiny: LoadedModel) -> None:
    given = work(tiny, MemitSettings(layers=(0, 2)))
    m = len(given.covariances[2])
    given.covariances = {**given.covariances, 2: -1e6 * torch.eye(m)}
    base = tiny.family.weight(tiny.model, 0).clone()
    inside: list[bool] = []
    with pytest.raises(EditError, match="not positive definite"):
        spread(*given.arguments, lambda *_: inside.append(torch.equal(tiny.family.weight(tiny.model, 0), base)))
    assert inside == [False], "the first layer was not yet written when the second failed"
    assert torch.equal(tiny.family.weight(tiny.model, 0), base)


def test_nothing_to_spread_is_told(tiny: LoadedModel) -> None:
    given = work(tiny, MemitSettings(layers=(0, 1)))
    given.groups, given.z = [], given.z[:0]
    with pytest.raises(EditError, match="no requests to spread"):
        spread(*given.arguments)


def test_facts_of_fewer_wordings_than_the_settings_have_weigh_more(tiny: LoadedModel) -> None:
    request = EditRequest("P1", "France", "The capital of {} is", "Oslo")
    further = tuple(replace(request, prompt=prompt) for prompt in ("{}'s capital is", "Where is {} ruled from?"))
    groups = [RequestGroup((request,)), RequestGroup((request, request)), RequestGroup((request,), keys=further)]
    assert key_weights(groups, 0).tolist() == [1.0] * 5
    torch.testing.assert_close(key_weights(groups, 3).square(), torch.tensor([4, 4, 4 / 3, 4 / 3, 4 / 3]).double())

    def twice(layer: int, keys: torch.Tensor, residual: torch.Tensor) -> Solution:
        return solve(keys.repeat(1, 2), residual.repeat(1, 2), one.covariances[layer], one.settings.lambda_)

    one = work(tiny, MemitSettings(layers=(0, 2), lambda_=3, sweeps=2, wordings=3))
    weighted, doubled = spread(*one.arguments), spread(*one.arguments, solver=twice)
    for layer in (0, 2):
        torch.testing.assert_close(weighted[layer].matrix(), doubled[layer].matrix(), rtol=1e-5, atol=1e-7)
