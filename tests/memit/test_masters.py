"""Edits of models stored in 16 bits: float32 masters while they are made, one cast at the end."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from statistics import fmean

import pytest
import torch

from kbsync.benchmarks.plain import read_at_subject
from kbsync.errors import EditError
from kbsync.memit import MemitSettings, RequestGroup, WeightDelta, edited, optimise_targets, spread
from kbsync.memit.delta import with_delta
from kbsync.memit.keys import SubjectStates
from kbsync.models import LoadedModel, load_model, score_targets
from tests.memit.test_spread import CONTEXTS
from tests.tiny_models import FACTS, left_as_found, ridged

GROUPS = [RequestGroup((replace(fact, target=other.target),)) for fact, other in pairwise(FACTS[:7])]
TRIPLES = [(group.requests[0].prompt, group.requests[0].subject, group.requests[0].target) for group in GROUPS]
SETTINGS = MemitSettings(layers=(0, 1), lambda_=0.1, steps=25, clamp_norm_factor=3.0, weight_decay=0.01, sweeps=3)


@pytest.fixture(params=["bfloat16", "float16"])
def half(request: pytest.FixtureRequest, known: LoadedModel) -> Iterator[LoadedModel]:
    """`known` in 16 bits."""
    with left_as_found(load_model(known.source, device="cpu", dtype=request.param)) as loaded:
        yield loaded


def mean_log_prob(loaded: LoadedModel) -> float:
    """Of the objects that the edits ask for."""
    return fmean(score.log_prob for score in score_targets(loaded, TRIPLES))


def test_an_edit_in_16_bits_is_that_of_float32(known: LoadedModel, half: LoadedModel) -> None:
    z = torch.stack([target.z for target in optimise_targets(known, GROUPS, CONTEXTS[:1], SETTINGS)])
    covariances = ridged(known, SETTINGS)
    exact = spread(known, GROUPS, CONTEXTS[:1], z, covariances, SETTINGS)
    found = spread(half, GROUPS, CONTEXTS[:1], z, covariances, SETTINGS)
    for layer, delta in exact.items():
        assert found[layer].left.dtype == torch.float32
        difference = (found[layer].matrix() - delta.matrix()).norm() / delta.matrix().norm()
        assert float(difference) < (0.05 if half.model.dtype == torch.float16 else 0.15)
    base, half_base = mean_log_prob(known), mean_log_prob(half)
    with edited(known, exact):
        wanted = mean_log_prob(known) - base
    assert wanted > 0.5, "nothing to be kept"
    for masters in (True, False):
        with edited(half, found, masters=masters):
            assert mean_log_prob(half) - half_base == pytest.approx(wanted, rel=0.1)


def test_small_deltas_count_between_sweeps(half: LoadedModel) -> None:
    """Layer 1's keys with a master below them are those of the unrounded sum, which the cast would lose."""
    small = 2**-12 * torch.sign(half.weight(0).float()) * half.weight(0).float().abs()
    assert torch.equal(with_delta(half.weight(0), small).to(half.model.dtype), half.weight(0))
    with torch.no_grad():
        with edited(half, {0: small}, masters=True):
            states = SubjectStates(half, GROUPS, CONTEXTS[:1])
            down = half.family.down_projection(half.model, 0)
            key = read_at_subject(half, CONTEXTS[0], GROUPS[0].requests[0], 0)[0].float()
            output = torch.nn.functional.linear(key, down.weight.data)  # type: ignore[arg-type]
            states.advance(0, 0)
        assert not torch.equal(output, torch.nn.functional.linear(key, half.weight(0).float()))
        torch.testing.assert_close(output, key @ with_delta(half.weight(0), small).T, rtol=1e-5, atol=1e-6)


def test_the_base_is_as_before_after_an_error(half: LoadedModel) -> None:
    m = half.weight(0).shape[1]
    broken = {0: torch.eye(m), 1: -1e6 * torch.eye(m)}
    z = torch.randn(len(GROUPS), half.weight(0).shape[0], generator=torch.Generator().manual_seed(1))
    with pytest.raises(EditError, match="not positive definite"):
        spread(half, GROUPS, CONTEXTS[:1], z, broken, SETTINGS)


def test_a_sum_beyond_float16_is_refused_and_nothing_is_written(known: LoadedModel) -> None:
    with left_as_found(load_model(known.source, device="cpu", dtype="float16")) as loaded:
        d, m = loaded.weight(1).shape
        fine = WeightDelta(torch.zeros(d, 1), torch.zeros(1, m))
        left, right = torch.zeros(d, 1), torch.zeros(1, m)
        left[0], right[0, 0] = 7e4, 1.0
        seen: list[str] = []
        with (
            pytest.raises(
                EditError, match="layer 1: base plus delta exceeds the range of float16; nothing was written"
            ),
            edited(loaded, {0: fine, 1: WeightDelta(left, right)}),
        ):
            seen.append("handed over")
        assert seen == []
        with edited(loaded, {1: WeightDelta(left, right)}, masters=True):
            assert torch.isfinite(loaded.weight(1)).all()
