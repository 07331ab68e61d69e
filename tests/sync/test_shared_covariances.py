"""Covariances handed on: what is exported is imported, and nothing that was cut or changed."""

import shutil
from pathlib import Path

import pytest
import torch

from kbsync.errors import SettingsError
from kbsync.ledger import replace_tensors
from kbsync.sync.home import Loading, silent
from kbsync.sync.stats import StatsOptions, covariances_of, export_covariances, import_covariances, read_shared
from tests.homes import Editable
from tests.tiny_models import random_folder


@pytest.fixture
def options(small: Editable) -> StatsOptions:
    values = {"layers": "0,1", "covariance_tokens": "300", "sequence_length": "32"}
    return StatsOptions(small.name, small.corpus, values, loading=Loading("cpu"))


@pytest.fixture
def shared(options: StatsOptions, tmp_path: Path) -> Path:
    file = tmp_path / "shared.safetensors"
    export_covariances(tmp_path / "mine", file, options, silent)
    return file


def test_what_is_exported_is_imported(shared: Path, options: StatsOptions, tmp_path: Path) -> None:
    taken = import_covariances(tmp_path / "other", shared, options.model, loading=Loading("cpu"))
    assert [taken[key] for key in ("layers", "new", "tokens", "corpus")] == [(0, 1), [0, 1], 300, "small-corpus.txt"]
    _, mine = covariances_of(tmp_path / "mine", options, silent)
    _, theirs = covariances_of(tmp_path / "other", options, silent)
    assert theirs.cached == {0, 1}
    assert theirs.records == mine.records
    for layer, value in mine.items():
        assert torch.equal(theirs[layer], value)
    assert import_covariances(tmp_path / "other", shared, None)["new"] == []


def test_a_file_that_was_cut_or_changed_anywhere_is_refused(shared: Path, tmp_path: Path) -> None:
    content = shared.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    copy = tmp_path / "copy.safetensors"
    for place in (*range(0, header, 7), header, header + 1000, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        copy.write_bytes(changed)
        if content[place : place + 1] != b" ":  # space that fills up the header says nothing
            with pytest.raises(SettingsError, match=r"copy\.safetensors"):
                import_covariances(tmp_path / "other", copy, None)
    for length in (0, 5, header, len(content) // 2, len(content) - 1):
        copy.write_bytes(content[:length])
        with pytest.raises(SettingsError, match=r"copy\.safetensors is cut or damaged, or no safetensors file"):
            import_covariances(tmp_path / "other", copy, None)
    assert not (tmp_path / "other").exists()


def test_a_changed_tensor_is_named_by_its_layer(shared: Path, tmp_path: Path) -> None:
    changed = bytearray(shared.read_bytes())
    changed[-1] ^= 1
    shared.write_bytes(changed)
    with pytest.raises(SettingsError, match=r"changed after the export, in the covariance of layer 1"):
        read_shared(shared)


def test_what_is_no_such_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.safetensors does not exist"):
        read_shared(tmp_path / "none.safetensors")
    replace_tensors(tmp_path / "other.safetensors", {"x": torch.ones(2)}, {})
    with pytest.raises(SettingsError, match=r"other\.safetensors holds no covariances: `kbsync stats export` writes"):
        read_shared(tmp_path / "other.safetensors")


def test_another_models_covariances_are_refused(
    shared: Path, options: StatsOptions, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = random_folder(tmp_path_factory.getbasetemp(), "gptj")
    with pytest.raises(SettingsError, match=r"is of the model .*; .* has other weights up to layer 0, or another"):
        import_covariances(tmp_path / "other", shared, str(other), loading=Loading("cpu"))
    model = tmp_path / "model"
    shutil.copytree(options.model, model)
    shutil.copy(other / "tokenizer.json", model / "tokenizer.json")
    with pytest.raises(SettingsError, match=r"or another tokenizer"):
        import_covariances(tmp_path / "other", shared, str(model), loading=Loading("cpu"))
    assert not (tmp_path / "other").exists()


def test_a_file_is_not_overwritten(shared: Path, options: StatsOptions, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"shared.safetensors exists already: name a new file"):
        export_covariances(tmp_path / "mine", shared, options, silent)
