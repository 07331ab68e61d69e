"""NAS by hand and by what it anchors, LocFT-BF by what sets it apart."""

from dataclasses import replace

import pytest
import torch

from kbsync.editors.alphaedit import NasSettings, anchored, at_subject, own_targets, write_nas
from kbsync.editors.ft import FineTuningSettings, fine_tune
from kbsync.errors import EditError
from kbsync.memit import edited
from kbsync.metrics.said import next_tokens
from kbsync.models import LoadedModel, capture, last_hidden, locate, make_rows
from kbsync.models.generation import end_tokens
from tests.editors.tasks import make_task, swapped


def test_values_are_scaled_to_the_mean_without_the_largest() -> None:
    values = torch.tensor([[3.0, 4.0], [0.0, 1.0], [30.0, 40.0]])
    before = torch.tensor([[9.0, 9.0]] * 3)
    found = anchored(values, before, dropped=0.34, skipped=2.0)  # n = (5 + 1) / 2
    assert torch.allclose(found, torch.tensor([[1.8, 2.4], [0.0, 3.0], [9.0, 9.0]]))


def test_what_the_mlp_adds_is_read_at_the_subject(known: LoadedModel) -> None:
    task = make_task(known, swapped(2))
    groups, settings, _ = own_targets(task)
    hidden, added = at_subject(task, groups, settings.layers[-1])
    block = known.family.block_list(known.model)[2]
    down = known.family.down_projection(known.model, 2)
    for place, request in enumerate(task.requests):
        (text,) = locate(known.tokenizer, [(request.prompt, request.subject, "")])
        with capture(block) as out, capture(down) as given:
            last_hidden(known, make_rows([text.ids], known.device))
        assert torch.allclose(hidden[place].float(), out.value[0, text.subject_last], atol=1e-4)
        assert torch.allclose(added[place].float(), given.value[0, text.subject_last], atol=1e-4)


def test_a_norm_behind_the_mlp_is_refused(tiny: LoadedModel) -> None:
    if tiny.family.norm_behind(tiny.model, 1) is None:
        return
    with pytest.raises(EditError, match="norm behind"):
        write_nas(make_task(tiny, swapped(1)), NasSettings(threshold=1e9))


def test_locft_is_fine_tuning_in_other_orders_that_learns_to_stop(known: LoadedModel) -> None:
    task = make_task(known, swapped(3))
    settings = FineTuningSettings(layer=2, lr=5e-3, weight_decay=0.0, steps=4, batch=2)
    plain = fine_tune(task, settings)[2]
    assert isinstance(plain, torch.Tensor)
    for changed in (replace(settings, shuffled=True), replace(settings, ends=True)):
        found = fine_tune(task, changed)[2]
        again = fine_tune(task, changed)[2]
        assert isinstance(found, torch.Tensor)
        assert isinstance(again, torch.Tensor)
        assert torch.equal(found, again)
        assert not torch.allclose(found, plain, rtol=1e-2)


def test_the_end_of_the_text_is_learnt_with_the_object(known: LoadedModel) -> None:
    task = make_task(known, swapped(2))
    said = [f"{one.prompt.format(one.subject)} {one.target}" for one in task.requests]
    (end,) = end_tokens(known)
    settings = FineTuningSettings(layer=3, lr=5e-3, weight_decay=0.0, steps=10)
    likely = {}
    for ends in (False, True):
        with edited(known, fine_tune(task, replace(settings, ends=ends))):
            likely[ends] = next_tokens(known, said)[:, end]
    assert bool((likely[True] > likely[False]).all())
