"""ROME: after each edit W k = v*; where k = k*, no other change that does it is smaller under the covariance."""

import pytest
import torch

from kbsync.benchmarks.plain import keys_and_hidden
from kbsync.editors.rome import RomeSettings, inverse_times, keys_and_residual, rank_one, write_rome
from kbsync.errors import EditError
from kbsync.memit import RequestGroup, WeightDelta, edited, optimise_targets
from kbsync.models import LoadedModel
from tests.editors.tasks import CONTEXTS, make_task, swapped

SETTINGS = RomeSettings(layer=1, steps=10, weight_decay=0.01)


@pytest.mark.parametrize("bare", [False, True])
def test_each_edit_gives_its_value_on_the_weights_as_they_stand(tiny: LoadedModel, bare: bool) -> None:
    """C^-1 of the mean key over all contexts, scaled so that the mean key, or the bare one, gets v*."""
    requests = swapped(3)
    task = make_task(tiny, requests)
    delta = write_rome(task, SETTINGS, bare=bare)[1]
    assert isinstance(delta, WeightDelta)
    ordered = task.requests
    search = SETTINGS.search(1, task.settings)
    for place, request in enumerate(ordered):
        before = delta.left[:, :place] @ delta.right[:place]
        with edited(tiny, {1: before}):
            W = tiny.weight(1).double().clone()
            key, mean, residual = keys_and_residual(task, RequestGroup((request,)), search)
            keys, _ = keys_and_hidden(tiny, CONTEXTS, request, 1, 1)
        assert torch.allclose(key, keys[0].double(), rtol=1e-4, atol=1e-6)
        assert torch.allclose(mean, keys.double().mean(0), rtol=1e-4, atol=1e-6)
        direction = inverse_times(task.covariances([1])[1])(mean)
        assert torch.allclose(delta.right[place].double(), direction, rtol=1e-3, atol=1e-6)
        after = W + torch.outer(delta.left[:, place], delta.right[place]).double()
        wanted = W @ key + residual  # v*
        given = key if bare else mean
        assert float((after @ given - wanted).norm() / wanted.norm()) < 1e-5


def test_the_value_is_what_moves_the_hidden_state_to_its_target(known: LoadedModel) -> None:
    """The bare prompt's key gets v*, so the edited model's h is z there, whatever the contexts."""
    (request,) = swapped(1)
    task = make_task(known, [request])
    group = RequestGroup((request,))
    (target,) = optimise_targets(known, [group], CONTEXTS, SETTINGS.search(1, task.settings))
    with edited(known, write_rome(task, SETTINGS, bare=True)):
        _, hidden = keys_and_hidden(known, ["{}"], request, 1, 1)
    assert float((hidden[0] - target.z).norm() / target.z.norm()) < 1e-5


def test_no_other_change_that_does_it_is_smaller() -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(50, 6, generator=generator, dtype=torch.float64)
    C = keys.T @ keys / 50
    key, residual = keys[0], torch.randn(4, generator=generator, dtype=torch.float64)
    u, v = rank_one(key, residual, inverse_times(C)(key))
    delta = torch.outer(u, v)
    for _ in range(20):
        other = torch.randn(4, 6, generator=generator, dtype=torch.float64)
        other -= torch.outer(other @ key, key) / (key @ key)  # leaves W k* as it is
        assert torch.trace(delta @ C @ other.T).abs() < 1e-9  # so any other is longer
    assert torch.allclose(delta @ key, residual)


def test_a_singular_covariance_is_refused() -> None:
    with pytest.raises(EditError, match="singular"):
        inverse_times(-torch.eye(3))
