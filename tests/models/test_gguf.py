"""GGUF files: the same model as the checkpoint that they were made of; what cannot be read is told."""

import shutil
from pathlib import Path

import pytest
import torch

from kbsync.errors import ModelError
from kbsync.models import LoadedModel, greedy_answers, load_model
from kbsync.models.checkpoint import model_hash
from kbsync.models.load import copy_of, is_whole
from tests.gguf_file import write_gguf
from tests.real import loaded_once, real, real_file
from tests.tiny_models import random_folder

__all__ = ["loaded_once", "real", "real_file"]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_folder(tmp_path_factory.getbasetemp(), "llama")


@pytest.fixture(scope="module")
def file(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(llama, made)
    return made


def test_it_is_the_model_that_was_written(llama: Path, file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole, read = load_model(str(llama), device="cpu"), load_model(str(file), device="cpu")
    assert (read.source, read.family) == (str(file), whole.family)
    weights = dict(whole.model.named_parameters())
    assert {name: weight.shape for name, weight in read.model.named_parameters()} == {
        name: weight.shape for name, weight in weights.items()
    }
    assert all(torch.equal(weight, weights[name]) for name, weight in read.model.named_parameters())
    text = "The capital of İstanbul isn't 1987"
    assert read.tokenizer(text)["input_ids"] == whole.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert not any(capfd.readouterr())


Loaded = tuple[str, dict[str, torch.Tensor], object, object]
"""hash, weights, tokens of a text, and the token that ends one"""


def all_of(loaded: LoadedModel) -> Loaded:
    text = loaded.tokenizer("The capital of İstanbul isn't 1987")["input_ids"]
    weights = {name: weight.clone() for name, weight in loaded.model.named_parameters()}
    return model_hash(loaded), weights, text, loaded.model.generation_config.eos_token_id


@pytest.fixture(scope="module")
def cached(file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Loaded]:
    """A cache with what was read of the file, and what that was. Not to be changed."""
    folder = tmp_path_factory.mktemp("gguf-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KBSYNC_CACHE", str(folder))
        return folder, all_of(load_model(str(file), device="cpu"))


@pytest.fixture
def first(cached: tuple[Path, Loaded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """What was read first, and a copy of its cache in use."""
    shutil.copytree(cached[0], tmp_path / "cache")
    monkeypatch.setenv("KBSYNC_CACHE", str(tmp_path / "cache"))
    return cached[1]


def test_it_is_read_once_and_kept_as_it_was(file: Path, first: Loaded, tmp_path: Path) -> None:
    copy = copy_of(file)
    assert copy.parent == tmp_path / "cache"
    assert is_whole(copy)
    assert list(copy.parent.iterdir()) == [copy]
    written = (copy / "model.safetensors").stat().st_mtime_ns
    for _ in range(2):
        again = load_model(str(file), device="cpu")
        assert again.source == str(file)
        found = all_of(again)
        assert found[0] == first[0]
        assert found[2:] == first[2:]
        assert all(torch.equal(weight, first[1][name]) for name, weight in found[1].items())
    assert (copy / "model.safetensors").stat().st_mtime_ns == written


@pytest.mark.parametrize("harm", ["byte", "missing", "added", "hashes"])
def test_a_copy_that_was_changed_is_made_again(harm: str, file: Path, first: Loaded) -> None:
    copy = copy_of(file)
    if harm == "byte":
        content = bytearray((copy / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (copy / "model.safetensors").write_bytes(content)
    elif harm == "missing":
        (copy / "tokenizer.json").unlink()
    elif harm == "added":
        (copy / "own.py").write_text("1 / 0", encoding="utf-8")
    else:
        (copy / "hashes.json").write_text("[", encoding="utf-8")
    assert not is_whole(copy)
    assert all_of(load_model(str(file), device="cpu"))[0] == first[0]
    assert is_whole(copy)


def test_a_cache_that_cannot_be_written_is_done_without(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("KBSYNC_CACHE", str(tmp_path / "file"))
    assert load_model(str(file), device="cpu").source == str(file)
    assert not any(capfd.readouterr())


def test_what_was_read_can_be_written(file: Path, tmp_path: Path) -> None:
    read = load_model(str(file), device="cpu")
    read.model.save_pretrained(tmp_path / "out")
    read.tokenizer.save_pretrained(tmp_path / "out")
    assert model_hash(load_model(str(tmp_path / "out"), device="cpu")) == model_hash(read)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.gguf", None, "cannot be read: No such file"),
        ("text.gguf", b"nothing of the kind", "is not a GGUF file"),
        ("head.gguf", b"GGUF\x03\x00\x00\x00", "cannot be loaded"),
        ("a-00001-of-00003.gguf", b"GGUF", "is one part of several: join them first"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as raised:
        load_model(str(tmp_path / name), device="cpu")
    assert "\n" not in str(raised.value)


def test_a_file_that_was_cut_is_told(file: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(ModelError, match=r"cut\.gguf cannot be loaded"):
        load_model(str(tmp_path / "cut.gguf"), device="cpu")


def test_an_architecture_that_cannot_be_read_is_named(llama: Path, tmp_path: Path) -> None:
    write_gguf(llama, tmp_path / "other.gguf", architecture="mamba9")
    with pytest.raises(ModelError, match="architecture mamba9 is not supported"):
        load_model(str(tmp_path / "other.gguf"), device="cpu")


@pytest.mark.parametrize("source", ["some/one:../x.gguf", "/some/one:x.gguf", "some:x.gguf"])
def test_only_a_file_of_a_repository_is_asked_of_the_hub(source: str) -> None:
    with pytest.raises(ModelError, match=r"model file .* cannot be read: No such file"):
        load_model(source, device="cpu")


def test_a_pretrained_model(real: LoadedModel) -> None:
    assert (real.family.name, real.weight(0).shape) == ("Llama", (576, 1536))
    assert real.tokenizer.chat_template
    (answer,) = greedy_answers(real, ["The capital of France is"])
    assert answer.startswith("Paris")
