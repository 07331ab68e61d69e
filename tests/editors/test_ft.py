"""FT-W against torch's Adam on the parameter itself."""

import math

import pytest
import torch

from kbsync.editors.editor import object_losses, object_texts
from kbsync.editors.ft import FineTuningSettings, fine_tune
from kbsync.memit import edited
from kbsync.models import LoadedModel
from tests.editors.tasks import make_task, swapped


def plain_adam(loaded: LoadedModel, layer: int, steps: int, weight_decay: float) -> torch.Tensor:
    """The change [d, m] by torch's Adam on the module's own weight, which is put back."""
    module = loaded.family.down_projection(loaded.model, layer)
    weight = module.weight
    assert isinstance(weight, torch.nn.Parameter)
    before = weight.detach().clone()
    weight.requires_grad_(True)
    optimizer = torch.optim.Adam([weight], lr=1e-3, weight_decay=weight_decay)
    try:
        for _ in range(steps):
            rows = [loaded.tokenizer(f"{one.prompt.format(one.subject)} {one.target}") for one in swapped(3)]
            losses = []
            for row, text in zip(rows, object_texts(loaded, swapped(3)), strict=True):
                logits = loaded.model(input_ids=torch.tensor([row["input_ids"]])).logits[0].float().log_softmax(-1)
                spots = range(text.target_start, len(text.ids))
                losses.append(-torch.stack([logits[spot - 1, text.ids[spot]] for spot in spots]).mean())
            optimizer.zero_grad()
            torch.stack(losses).mean().backward()
            optimizer.step()
        change = weight.detach() - before
    finally:
        weight.requires_grad_(False)
        weight.grad = None
        weight.data.copy_(before)
    return change if loaded.family.orientation == "linear" else change.T


@pytest.mark.parametrize(("steps", "weight_decay"), [(1, 0.0), (4, 0.0), (4, 0.1)])
def test_it_is_adam_on_the_weight(tiny: LoadedModel, steps: int, weight_decay: float) -> None:
    settings = FineTuningSettings(layer=1, steps=steps, lr=1e-3, weight_decay=weight_decay)
    found = fine_tune(make_task(tiny, swapped(3)), settings)[1]
    expected = plain_adam(tiny, 1, steps, weight_decay)
    assert isinstance(found, torch.Tensor)
    # Adam divides by the gradient's size, so where that is about nothing its sign is rounding.
    assert float((found - expected).norm() / expected.norm()) < 1e-2


def test_the_blocks_below_the_tuned_one_run_once(known: LoadedModel) -> None:
    ran: list[int] = []
    blocks = known.family.block_list(known.model)
    hooks = [
        block.register_forward_hook(lambda *_, number=number: ran.append(number)) for number, block in enumerate(blocks)
    ]
    settings = FineTuningSettings(layer=2, steps=3, lr=1e-3, weight_decay=0.0, stop_loss=0.0, batch=64)
    try:
        found = fine_tune(make_task(known, swapped(3)), settings)[2]
    finally:
        for hook in hooks:
            hook.remove()
    assert [ran.count(number) for number in range(3)] == [1, 1, 3]
    expected = plain_adam(known, 2, 3, 0.0)
    assert isinstance(found, torch.Tensor)
    assert float((found - expected).norm() / expected.norm()) < 1e-2


def test_it_stops_once_the_loss_is_small(known: LoadedModel) -> None:
    seen: list[tuple[int, int]] = []
    settings = FineTuningSettings(layer=2, steps=60, lr=3e-3, weight_decay=0.0, stop_loss=0.3)
    task = make_task(known, swapped(3))
    object.__setattr__(task, "progress", lambda phase, done, total: seen.append((done, total)))
    deltas = fine_tune(task, settings)
    assert 1 < len(seen) < 60
    with torch.no_grad(), edited(known, deltas):
        assert float(object_losses(known, object_texts(known, task.requests)).mean()) < settings.stop_loss
    none = fine_tune(task, FineTuningSettings(layer=2, stop_loss=100.0))[2]
    assert isinstance(none, torch.Tensor)
    assert not none.any()


def test_batches_are_steps_of_their_own(known: LoadedModel) -> None:
    ways = [FineTuningSettings(layer=2, steps=1, lr=1e-3, weight_decay=0.0, batch=batch) for batch in (1, 2)]
    one, two = (fine_tune(make_task(known, swapped(2)), way)[2] for way in ways)
    assert isinstance(one, torch.Tensor)
    assert isinstance(two, torch.Tensor)
    assert float(two.abs().max()) == pytest.approx(1e-3, rel=1e-2)  # Adam's first step
    assert float(one.abs().max()) > 1.5e-3


def test_the_published_law_of_weight_decay() -> None:
    assert FineTuningSettings().decay(10_000) == pytest.approx(math.exp(0.15589562) * 10_000**-0.87028798)
    assert FineTuningSettings(weight_decay=0.5).decay(10_000) == 0.5
