"""MEND: factors, the network at its start, training on a model that knows something, and files."""

from dataclasses import replace

import pytest
import torch

from kbsync.editors import mend as mend_module
from kbsync.editors.editor import NoSettings, object_losses, object_texts
from kbsync.editors.mend import (
    FIRST_STEP,
    FactorNetwork,
    Factors,
    MendSettings,
    gradient_factors,
    lessons,
    new_network,
    read_network,
    train_mend,
    write_mend,
)
from kbsync.errors import EditError, ModelError, SettingsError
from kbsync.models import LoadedModel
from tests.editors.tasks import make_task, swapped
from tests.tiny_models import FACTS

LAYERS = (1, 2)
QUICK = MendSettings(layers=(2, 3), rank=64, steps=60, edits=2, lr=1e-3, step_lr=1e-2)


def gradients(loaded: LoadedModel, count: int) -> dict[int, torch.Tensor]:
    """dL/dW [d, m] by autograd on the weights themselves, of the sum of the requests' losses."""
    weights = {}
    for layer in LAYERS:
        weight = loaded.family.down_projection(loaded.model, layer).weight
        assert isinstance(weight, torch.nn.Parameter)
        weights[layer] = weight.requires_grad_(True)
    try:
        loss = object_losses(loaded, object_texts(loaded, swapped(count))).sum()
        found = torch.autograd.grad(loss, list(weights.values()))
    finally:
        for weight in weights.values():
            weight.requires_grad_(False)
    linear = loaded.family.orientation == "linear"
    return {layer: one if linear else one.T for layer, one in zip(LAYERS, found, strict=True)}


def test_factors_sum_to_the_gradient(tiny: LoadedModel) -> None:
    expected = gradients(tiny, 3)
    found = gradient_factors(tiny, object_texts(tiny, swapped(3)), LAYERS)
    for layer, factors in found.items():
        wanted = expected[layer]
        assert float((factors.gradients.T @ factors.inputs - wanted).norm() / wanted.norm()) < 1e-5
        assert factors.gradients.any(1).all()


def test_it_starts_as_gradient_descent(tiny: LoadedModel) -> None:
    task = make_task(tiny, swapped(3))
    expected = gradients(tiny, 3)
    for layer, delta in write_mend(task, NoSettings()).items():
        wanted = -FIRST_STEP * expected[layer]
        assert isinstance(delta, torch.Tensor)
        assert float((delta - wanted).norm() / wanted.norm()) < 1e-5


def test_a_batch_in_parts_is_the_batch(known: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    network = train_mend(known, FACTS, replace(QUICK, steps=3)).network
    task = replace(make_task(known, swapped(6)), network=lambda: network)
    whole = write_mend(task, NoSettings())
    monkeypatch.setattr(mend_module, "TOKEN_BUDGET", 20)
    for layer, part in write_mend(task, NoSettings()).items():
        other = whole[layer]
        assert isinstance(part, torch.Tensor)
        assert isinstance(other, torch.Tensor)
        assert float((part - other).norm() / other.norm()) < 1e-5


def test_what_it_normalises_by_is_the_mean_and_deviation_of_all_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    u, g = 3 + 2 * torch.randn(50, 6, generator=generator), torch.randn(50, 4, generator=generator)
    network = FactorNetwork(4, 6, 1, 2, generator)
    for part in (slice(0, 7), slice(7, 8), slice(8, 50)):
        network.see(Factors(u[part], g[part]))
    z = torch.cat([u, g], dim=1)
    assert torch.allclose(network.mean, z.mean(0), atol=1e-5)
    assert torch.allclose(network.spread, z.std(0), rtol=1e-4)


def test_training_lowers_the_loss(known: LoadedModel) -> None:
    for steps in (60, 200, 500):  # the first is mostly enough
        told: list[tuple[int, int]] = []
        settings = replace(QUICK, steps=steps, step_lr=3e-3)
        trained = train_mend(known, FACTS, settings, lambda phase, done, total, told=told: told.append((done, total)))  # type: ignore[misc]
        edit, local = trained.edit_losses, trained.locality_losses
        assert told[-1] == (steps, steps)
        assert len(edit) == len(local) == steps
        assert trained.network.layers == [2, 3]
        if sum(edit[-20:]) < 0.7 * sum(edit[:20]):
            break
    else:
        pytest.fail(f"the loss stays: {sum(edit[:20])} at first, {sum(edit[-20:])} at last")
    again = train_mend(known, FACTS, replace(settings, steps=3))
    assert again.edit_losses == pytest.approx(edit[:3], rel=1e-4)


def test_lessons_edit_to_other_objects_and_keep_other_subjects() -> None:
    known = {fact.subject: fact.target for fact in FACTS}
    for lesson, _ in zip(lessons(FACTS, QUICK), range(20), strict=False):
        assert len({one.subject for one in lesson.requests}) == 2
        assert all(one.target != known[one.subject] and one.target in known.values() for one in lesson.requests)
        assert [(one.subject, one.target) for one in lesson.reworded] == [
            (one.subject, one.target) for one in lesson.requests
        ]
        assert len(lesson.unrelated) == 4
        assert not {one.subject for one in lesson.unrelated} & {one.subject for one in lesson.requests}
        assert all(one.target == known[one.subject] for one in lesson.unrelated)


def test_a_file_gives_the_same_network_and_is_refused_for_another_model(known: LoadedModel, tiny: LoadedModel) -> None:
    network = train_mend(known, FACTS, replace(QUICK, steps=2)).network
    tensors, metadata = network.state_dict(), network.metadata()
    read = read_network(tensors, metadata, known)
    factors = gradient_factors(known, object_texts(known, swapped(3)), network.layers)
    for layer, delta in read(factors).items():
        assert torch.equal(delta, network(factors)[layer])
    with pytest.raises(ModelError, match="trained for other weights"):
        read_network(tensors, metadata, tiny)
    with pytest.raises(ModelError, match="is not a MEND network"):
        read_network(tensors, {}, known)


def test_without_layers_it_is_the_last_three(known: LoadedModel) -> None:
    assert train_mend(known, FACTS, replace(QUICK, layers=None, steps=1)).network.layers == [1, 2, 3]
    assert new_network(known, (0,), 10**6, 0).rank == 10**6


def test_what_cannot_be_trained_is_refused(known: LoadedModel) -> None:
    with pytest.raises(EditError, match=r"MEND edits 2 facts in a step, and of the 2 .* 2 have another object"):
        train_mend(known, FACTS[:2], QUICK)
    with pytest.raises(SettingsError, match="are not all among the model's 4 blocks"):
        train_mend(known, FACTS, replace(QUICK, layers=(3, 4)))
    with pytest.raises(SettingsError, match="not ascending"):
        MendSettings(layers=(2, 1))
    with pytest.raises(EditError, match="not finite"):
        train_mend(known, FACTS, replace(QUICK, lr=1e30, step_lr=1e30))
