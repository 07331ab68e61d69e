"""W_out read and held wherever it lies: in its module, on the CPU or on disk under accelerate's hooks."""

import hashlib
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload

from kbsync.errors import ModelError
from kbsync.models import HeldWeight, LoadedModel, capture, execution_device, hold_weights, load_model
from tests.tiny_models import left_as_found, random_folder

IDS = torch.tensor([[5, 9, 60, 61, 7]])


def offloaded(folder: Path, how: str, dtype: str | None = None) -> LoadedModel:
    """The model with all of it offloaded to the CPU, or the upper blocks to the disk."""
    if how == "disk":
        room = "75KB" if dtype == "bfloat16" else "150KB"
        return load_model(str(folder), device="auto", dtype=dtype, max_memory={"cpu": room})
    loaded = load_model(str(folder), device="cpu", dtype=dtype)
    cpu_offload(loaded.model, execution_device=torch.device("cpu"))
    return loaded


@pytest.fixture(params=["disk", "cpu"])
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["gptj", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = random_folder(tmp_path_factory.getbasetemp(), request.param)
    return made


def test_a_held_weight_is_replaced_and_the_same_storage_comes_back(tiny: LoadedModel) -> None:
    family, model = tiny.family, tiny.model
    before = tiny.weight(1)
    copy = before.clone()
    with hold_weights(family, model, [1]) as held:
        assert torch.equal(held[1].base, copy)
        held[1].put(copy + 1)
        assert torch.equal(family.weight(model, 1), copy + 1)
        assert torch.equal(held[1].base, copy), "the base was written to"
    assert tiny.weight(1).data_ptr() == before.data_ptr()
    assert torch.equal(before, copy)


def test_all_comes_back_after_an_exception(tiny: LoadedModel) -> None:
    before = tiny.weight(1).clone()

    def fail(held: HeldWeight) -> None:
        held.put(before * 2)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), hold_weights(tiny.family, tiny.model, [0, 1]) as held:
        fail(held[1])
    assert torch.equal(tiny.weight(1), before)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_master_computes_in_float32(folder: Path, dtype: str) -> None:
    with left_as_found(load_model(str(folder), device="cpu", dtype=dtype)) as loaded, torch.no_grad():
        stored = getattr(torch, dtype)
        down = loaded.family.down_projection(loaded.model, 1)
        bias: torch.Tensor = down.bias  # type: ignore[assignment]
        with hold_weights(loaded.family, loaded.model, [1], masters=True) as held:
            master = held[1].base.float() * (1 + 2**-16)  # what a cast would round away
            assert torch.equal(master.to(stored), held[1].base)
            held[1].put(master)
            with capture(down, inputs=True) as key, capture(down) as output:
                loaded.model(IDS)
        assert key.value.dtype == torch.float32
        assert torch.equal(key.value, key.value.to(stored).float()), "a key is what the model computed"
        assert output.value.dtype == stored
        expected = (key.value @ master.T + bias.float()).to(stored)
        torch.testing.assert_close(output.value, expected, rtol=1e-2, atol=1e-2)
        assert {parameter.dtype for parameter in loaded.model.parameters()} == {stored}


def test_float32_weights_are_their_own_masters(tiny: LoadedModel) -> None:
    with hold_weights(tiny.family, tiny.model, [1], masters=True) as held:
        assert held[1].dtype == torch.float32
        assert not tiny.family.down_projection(tiny.model, 1)._forward_hooks


def test_an_offloaded_weight_is_read_and_hashed(folder: Path, how: str) -> None:
    plain, loaded = load_model(str(folder), device="cpu"), offloaded(folder, how)
    assert loaded.family.down_projection(loaded.model, 3).weight.is_meta
    assert torch.equal(loaded.weight(3), plain.weight(3))
    assert loaded.weights_sha256(range(4)) == plain.weights_sha256(range(4))
    assert loaded.device == torch.device("cpu")
    assert loaded.devices == (torch.device("cpu"),)
    assert execution_device(loaded.family.down_projection(loaded.model, 3)) == torch.device("cpu")


@pytest.mark.parametrize("masters", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_offloaded_weight_is_held_as_a_plain_one(folder: Path, how: str, dtype: str, masters: bool) -> None:
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    plain, loaded = load_model(str(folder), device="cpu", dtype=dtype), offloaded(folder, how, dtype)
    hook = loaded.family.down_projection(loaded.model, 3)._hf_hook
    map_before = hook.weights_map  # type: ignore[union-attr]
    change = 0.1 * torch.randn(plain.weight(3).shape, generator=torch.Generator().manual_seed(1))
    logits = []
    for one in (plain, loaded):
        before = one.model(IDS).logits
        with hold_weights(one.family, one.model, [1, 3], masters=masters) as held:
            for layer in (1, 3):
                held[layer].put(held[layer].base.float() + change)
            logits.append(one.model(IDS).logits)
        assert not torch.equal(logits[-1], before)
        assert torch.equal(one.model(IDS).logits, before)
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-5)
    assert hook.weights_map is map_before  # type: ignore[union-attr]
    assert loaded.family.down_projection(loaded.model, 3).weight.dtype == getattr(torch, dtype)
    assert files == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_value_that_is_nowhere_is_told(folder: Path) -> None:
    loaded = load_model(str(folder), device="cpu")
    torch.nn.Module.to(loaded.model, "meta")
    with pytest.raises(ModelError, match="on the meta device, and no hook"):
        loaded.weight(0)
