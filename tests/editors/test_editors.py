"""All editors by their one interface."""

import pytest
import torch

from kbsync.editors import EDITORS, PRESETS, Task, editor, known_values
from kbsync.editors.mend import MendSettings
from kbsync.editors.rome import RomeSettings
from kbsync.errors import EditError, SettingsError
from kbsync.memit import WeightDelta, edited, group_requests, optimise_targets, preset_names, spread
from kbsync.memit.settings import changed
from kbsync.models import LoadedModel
from tests.editors.tasks import CONTEXTS, SETTINGS, make_task, swapped


@pytest.mark.parametrize("name", EDITORS)
def test_deltas_fit_and_the_model_is_left_as_it_was(known: LoadedModel, name: str) -> None:
    task = make_task(known, swapped(2))
    values = {"threshold": "0.5"} if name in ("alphaedit", "nas") else {}
    deltas = editor(name, values).edit(task)
    assert bool(deltas) == (name != "none")
    for layer, delta in deltas.items():
        matrix = delta.matrix() if isinstance(delta, WeightDelta) else delta
        assert matrix.shape == known.weight(layer).shape
        assert matrix.any()
        assert not matrix.requires_grad
    with edited(known, deltas):  # checks that all is finite
        pass


def test_memit_is_kbsyncs_own(known: LoadedModel) -> None:
    task = make_task(known, swapped(3))
    groups = group_requests(known, swapped(3))
    z = torch.stack([target.z for target in optimise_targets(known, groups, CONTEXTS, SETTINGS)])
    expected = spread(known, groups, CONTEXTS, z, task.covariances(SETTINGS.layers), SETTINGS)
    with_z = Task(known, groups, CONTEXTS, SETTINGS, covariances=task.covariances, z=z)
    for given in (task, with_z):
        found = editor("memit").edit(given)
        assert list(found) == [1, 2]
        for layer, delta in found.items():
            assert isinstance(delta, WeightDelta)
            assert torch.equal(delta.matrix(), expected[layer].matrix())


@pytest.mark.parametrize("name", EDITORS)
def test_nothing_is_made_that_an_editor_does_not_need(known: LoadedModel, name: str) -> None:
    task = Task(known, group_requests(known, swapped(1)), ("{}",), SETTINGS)
    if name in ("ft", "locft", "none"):
        editor(name).edit(task)
    else:
        with pytest.raises(EditError, match="mend train" if name == "mend" else "needs the covariance of layers"):
            editor(name).edit(task)


def test_settings_come_from_the_paper_then_the_model_then_the_user() -> None:
    assert editor("rome").settings == RomeSettings()
    assert editor("rome", {"steps": "7", "layer": "3"}).settings == RomeSettings(steps=7, layer=3)
    measured = known_values("practice", "rome")
    assert measured
    found = editor("rome", {"steps": "7"}, model="practice")
    assert found.settings == changed(RomeSettings(), {**measured, "steps": 7})
    assert editor("rome", model="no such model").settings == RomeSettings()


def test_what_is_known_of_models_fits_the_editors() -> None:
    for file in PRESETS.glob("*.yaml"):
        assert file.stem in preset_names()
        for name in EDITORS:
            assert editor(name, model=file.stem).name == name
        changed(MendSettings(), known_values(file.stem, "mend_train"))


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        (
            "knife",
            {},
            "unknown editor 'knife'; known: memit, rome, rome-published, ft, mend, alphaedit, nas,",
        ),
        ("rome", {"lambda": "3"}, "unknown setting 'lambda'; known: clamp_norm_factor, kl_factor"),
        ("none", {"steps": "3"}, "unknown setting 'steps'; known: none"),
        ("rome", {"steps": "0"}, "steps: 0 is not 1 or more"),
        ("rome", {"lr": "nan"}, "lr: nan is not above 0"),
        ("ft", {"weight_decay": "-1"}, "weight_decay: -1.0 is not 0 or more"),
        ("alphaedit", {"threshold": "0"}, "threshold: 0.0 is not above 0"),
        ("ft", {"steps": "many"}, "steps: 'many' is not a whole number"),
    ],
)
def test_what_cannot_be_is_refused(name: str, values: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError) as refused:
        editor(name, values)
    assert told in str(refused.value)


@pytest.mark.parametrize("name", ["rome", "rome-published", "ft", "locft"])
def test_a_block_that_is_not_there_is_refused(known: LoadedModel, name: str) -> None:
    with pytest.raises(SettingsError, match="layer: 4 is too high; the model has 4 blocks, so 3 is the highest"):
        editor(name, {"layer": 4}).edit(make_task(known, swapped(1)))
