"""The edited state: what is in the weights inside, and that the base comes back bit by bit."""

from pathlib import Path

import pytest
import torch

from kbsync.errors import EditError
from kbsync.memit import WeightDelta, edited
from kbsync.models import HeldWeight, LoadedModel, load_model
from tests.tiny_models import left_as_found, random_folder


def change(loaded: LoadedModel, layer: int, scale: float = 1.0) -> torch.Tensor:
    shape = loaded.family.weight(loaded.model, layer).shape
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(layer))


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What is put in a weight's place from now on."""
    seen: list[torch.Tensor] = []
    put = HeldWeight.put

    def see(held: HeldWeight, weight: torch.Tensor) -> None:
        seen.append(weight)
        put(held, weight)

    monkeypatch.setattr(HeldWeight, "put", see)
    return seen


def test_inside_the_weights_are_base_plus_delta(tiny: LoadedModel) -> None:
    base = {layer: tiny.family.weight(tiny.model, layer).clone() for layer in (0, 1, 2)}
    factors = WeightDelta(torch.randn(32, 3), torch.randn(3, base[2].shape[1]))
    with edited(tiny, {0: change(tiny, 0), 2: factors}):
        inside = {layer: tiny.family.weight(tiny.model, layer).clone() for layer in (0, 1, 2)}
    assert torch.equal(inside[0], base[0] + change(tiny, 0))
    assert torch.equal(inside[1], base[1])
    assert torch.equal(inside[2], base[2] + factors.left @ factors.right)
    for layer in (0, 1, 2):
        assert torch.equal(tiny.family.weight(tiny.model, layer), base[layer])


def test_the_edited_model_answers_otherwise_and_the_base_as_before(tiny: LoadedModel) -> None:
    ids = torch.tensor([[5, 9, 60, 61, 7]])
    plain = tiny.model(ids).logits
    key = torch.zeros(1, tiny.family.weight(tiny.model, 1).shape[1])
    key[0, 5] = 1.0
    down = tiny.family.down_projection(tiny.model, 1)
    before = down(key)
    with edited(tiny, {1: change(tiny, 1)}):
        assert not torch.allclose(tiny.model(ids).logits, plain, atol=1e-2)
        # Column 5 of the d x m delta, however the family stores the weight.
        torch.testing.assert_close(down(key) - before, change(tiny, 1)[:, 5][None], rtol=1e-4, atol=1e-5)
    assert torch.equal(tiny.model(ids).logits, plain)


def test_the_base_returns_after_an_exception_inside(tiny: LoadedModel) -> None:
    base = tiny.family.weight(tiny.model, 2).clone()
    with pytest.raises(ZeroDivisionError), edited(tiny, {0: change(tiny, 0), 2: change(tiny, 2)}):
        raise ZeroDivisionError
    assert torch.equal(tiny.family.weight(tiny.model, 2), base)


def test_the_base_returns_where_adding_and_subtracting_would_not_give_it(known: LoadedModel) -> None:
    base = known.family.weight(known.model, 1).clone()
    huge = change(known, 1, 1e8)
    assert not torch.equal((base + huge) - huge, base)
    with edited(known, {1: huge}):
        pass
    assert torch.equal(known.family.weight(known.model, 1), base)


def test_no_delta_is_the_base(known: LoadedModel) -> None:
    ids = torch.tensor([[5, 9, 60]])
    plain = known.model(ids).logits
    with edited(known, {}):
        assert torch.equal(known.model(ids).logits, plain)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_delta_that_is_not_finite_is_refused_before_any_write(
    tiny: LoadedModel, value: float, writes: list[torch.Tensor]
) -> None:
    broken = change(tiny, 2)
    broken[3, 4] = value
    with (
        pytest.raises(EditError, match="layer 2: the delta is not finite; nothing was written"),
        edited(tiny, {0: change(tiny, 0), 2: broken}),
    ):
        pytest.fail("the model was handed over")
    assert writes == []


def test_a_delta_of_another_shape_is_refused_before_any_write(tiny: LoadedModel, writes: list[torch.Tensor]) -> None:
    d, m = tiny.family.weight(tiny.model, 2).shape
    wrong = WeightDelta(torch.ones(m + 1, 1), torch.ones(1, d))
    with (
        pytest.raises(EditError, match=rf"layer 2: a delta of \({m + 1}, {d}\) for \({d}, {m}\) weights"),
        edited(tiny, {0: change(tiny, 0), 2: wrong}),
    ):
        pytest.fail("the model was handed over")
    assert writes == []


def test_the_writes_would_be_seen(tiny: LoadedModel, writes: list[torch.Tensor]) -> None:
    with edited(tiny, {0: change(tiny, 0), 2: change(tiny, 2)}):
        assert len(writes) == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_added_in_float32_and_cast_once(
    dtype: torch.dtype, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder: Path = random_folder(tmp_path_factory.getbasetemp(), "gpt2")
    with left_as_found(load_model(str(folder), device="cpu", dtype=str(dtype).removeprefix("torch."))) as loaded:
        base = loaded.family.weight(loaded.model, 1).clone()
        delta = change(loaded, 1, 1e-3)
        with edited(loaded, {1: delta}):
            inside = loaded.family.weight(loaded.model, 1).clone()
        assert inside.dtype == dtype
        assert torch.equal(inside, (base.float() + delta).to(dtype))
        assert not torch.equal(inside, base + delta.to(dtype)), "the sum in half precision would be the same"
