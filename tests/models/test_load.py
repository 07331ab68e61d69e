"""Loading: what a loaded model is, and one clear error for each thing that can be wrong with a checkpoint."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kbsync.errors import ModelError
from kbsync.models import LoadedModel, load_model
from tests.tiny_configs import CONFIGS
from tests.tiny_models import random_folder, set_to

WEIGHT = "transformer.h.1.mlp.fc_out.weight"


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A copy of a checkpoint, to be damaged."""
    made: Path = shutil.copytree(random_folder(tmp_path_factory.getbasetemp(), "gptj"), tmp_path / "model")
    return made


def test_a_loaded_model_is_frozen_and_in_eval_mode(tiny: LoadedModel) -> None:
    assert not tiny.model.training
    assert all(not parameter.requires_grad for parameter in tiny.model.parameters())
    assert {parameter.dtype for parameter in tiny.model.parameters()} == {torch.float32}
    assert tiny.device == torch.device("cpu")
    assert tiny.architecture.endswith("ForCausalLM") or tiny.architecture.endswith("LMHeadModel")


@pytest.mark.parametrize("model_type", CONFIGS)
def test_weights_and_tokenizer_are_those_of_the_files(
    model_type: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    saved = random_folder(tmp_path_factory.getbasetemp(), model_type)
    loaded = load_model(str(saved), device="cpu")
    parameters = dict(loaded.model.named_parameters())
    stored = load_file(saved / "model.safetensors")
    stored = {name.replace("embed_out", "lm_head"): value for name, value in stored.items()}  # GPT-NeoX's older name
    assert stored.keys() <= parameters.keys()
    assert all(torch.equal(parameters[name], value) for name, value in stored.items())
    assert loaded.source == str(saved)
    known = json.loads((saved / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert loaded.tokenizer.get_vocab() == known


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_dtype_that_is_asked_for(folder: Path, dtype: str) -> None:
    loaded = load_model(str(folder), device="cpu", dtype=dtype)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {getattr(torch, dtype)}


def test_a_half_precision_checkpoint_is_float32_on_a_cpu(folder: Path) -> None:
    stored = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}), encoding="utf-8")
    loaded = load_model(str(folder), device="cpu")
    assert torch.equal(dict(loaded.model.named_parameters())[WEIGHT], stored[WEIGHT].float())


def test_the_hash_of_the_edited_layers_shows_a_change_in_them_alone(tiny: LoadedModel) -> None:
    before = tiny.weights_sha256([1, 2])
    assert before == tiny.weights_sha256((1, 2)) != tiny.weights_sha256([1])
    for layer, changes in ((0, False), (2, True)):
        weight = tiny.family.weight(tiny.model, layer)
        with set_to(weight, weight + torch.eye(*weight.shape)):
            assert (tiny.weights_sha256([1, 2]) != before) is changes
    assert tiny.weights_sha256([1, 2]) == before


def drop_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[WEIGHT]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def misshape_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, WEIGHT: torch.zeros(3, 3)}, folder / "model.safetensors", {"format": "pt"})


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def drop_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def rewrite(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content, encoding="utf-8")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json: point --model at"),
    "config is no JSON": (rewrite("config.json", "{no"), "not a valid JSON file"),
    "config without a type": (rewrite("config.json", "{}"), "model_type"),
    "another architecture": (rewrite("config.json", '{"model_type": "bert"}'), "'bert' is not of a family"),
    "an invented architecture": (rewrite("config.json", '{"model_type": "nonesuch"}'), "nonesuch"),
    "a size that is a word": (rewrite("config.json", '{"model_type": "gptj", "n_embd": "wide"}'), "n_embd"),
    "other sizes": (rewrite("config.json", '{"model_type": "gptj", "n_layer": 1, "n_embd": 64}'), "its files hold"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "weights cut": (cut_weights, "cannot be loaded"),
    "weights are no safetensors": (rewrite("model.safetensors", "nothing of the kind " * 9), "cannot be loaded"),
    "weights empty": (rewrite("model.safetensors", ""), "cannot be loaded"),
    "a weight is missing": (drop_weight, f"lacks 1 of the weights, such as {WEIGHT}"),
    "a weight has another shape": (misshape_weight, "cannot be loaded"),
    "no tokenizer": (drop_tokenizer, "has no tokenizer"),
    "the tokenizer is no JSON": (rewrite("tokenizer.json", "{"), "cannot be loaded"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_is_told(folder: Path, name: str) -> None:
    damage, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(ModelError) as raised:
        load_model(str(folder), device="cpu")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("source", ["/no/such/folder", "./nothing", "~/no-such-folder-here", "one/two/three"])
def test_a_directory_that_does_not_exist(source: str) -> None:
    with pytest.raises(ModelError, match=f"model directory {source} does not exist"):
        load_model(source)


@pytest.mark.parametrize("device", ["warp", "cuda:x", "cuda:99"])
def test_a_device_that_cannot_be_used(folder: Path, device: str) -> None:
    with pytest.raises(ModelError, match=f"device '{device}' cannot be used here"):
        load_model(str(folder), device=device)


def test_a_dtype_that_is_none(folder: Path) -> None:
    with pytest.raises(ModelError, match="'int8' is not one of float32, float16, bfloat16"):
        load_model(str(folder), device="cpu", dtype="int8")
