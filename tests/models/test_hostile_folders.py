"""A model's folder is data: none of its code runs, nothing outside it is read, and it takes no more than it holds."""

import io
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kbsync.errors import ModelError
from kbsync.models import LoadedModel, greedy_answers, load_model, require_chat_template, top_answers
from tests.fuzz import EACH, within_memory
from tests.tiny_models import random_folder, set_to

WEIGHT = "model.layers.1.mlp.down_proj.weight"
MODULE = "import pathlib; pathlib.Path({marker!r}).touch()\nclass Own: pass\n"


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A copy of a checkpoint, to be tampered with."""
    made: Path = shutil.copytree(random_folder(tmp_path_factory.getbasetemp(), "llama"), tmp_path / "model")
    return made


def change(folder: Path, name: str, **values: object) -> None:
    """Set values of a JSON file."""
    file = folder / name
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps({**content, **values}), encoding="utf-8")


def refusal(folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """The one line that says why the folder is not loaded; nothing else is said, and nothing asked."""
    with pytest.raises(ModelError) as raised:
        load_model(str(folder), device="cpu")
    assert not any(capfd.readouterr())
    assert "\n" not in str(raised.value)
    return str(raised.value)


def trial(folder: Path) -> str | None:
    """Load a folder and let the model speak; return what is told of it, None where all went well."""
    try:
        greedy_answers(load_model(str(folder), device="cpu"), ["The capital of Peru is"], 2)
    except ModelError as error:
        return str(error)
    return None


OWN = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own", "AutoTokenizer": ["own.Own", "own.Own"]}


@pytest.mark.parametrize("model_type", ["llama", "nonesuch"])
def test_code_of_a_folder_is_never_run(
    model_type: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    marker = folder / "ran"
    (folder / "own.py").write_text(MODULE.format(marker=str(marker)), encoding="utf-8")
    change(folder, "config.json", auto_map=OWN, model_type=model_type)
    change(folder, "tokenizer_config.json", auto_map=OWN)
    change(folder, "generation_config.json", custom_generate="own")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    if model_type == "llama":  # transformers' own classes do
        assert greedy_answers(load_model(str(folder), device="cpu"), ["The"])
        assert not any(capfd.readouterr())
    else:
        assert "comes with Python code, which kbsync never runs" in refusal(folder, capfd)
    assert not marker.exists()


def test_a_tokenizer_of_its_own_is_not_run(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    marker = folder / "ran"
    (folder / "own.py").write_text(MODULE.format(marker=str(marker)), encoding="utf-8")
    change(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]}, tokenizer_class="Own")
    assert "comes with Python code, which kbsync never runs" in refusal(folder, capfd)
    assert not marker.exists()


def test_attention_from_the_hub_is_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    change(folder, "config.json", attn_implementation="someone/kernels")
    assert "asks for code of the hub (someone/kernels)" in refusal(folder, capfd)


def test_a_pickle_is_not_run(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    marker = folder / "ran"

    class Own:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return os.mkdir, (str(marker),)

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({WEIGHT: Own()}))
    assert "cannot be loaded" in refusal(folder, capfd) or "its files hold" in refusal(folder, capfd)
    assert not marker.exists()


def index(folder: Path, shard: str) -> None:
    names = load_file(folder / "model.safetensors")
    shutil.move(folder / "model.safetensors", folder.parent / "elsewhere.safetensors")
    content = {"metadata": {}, "weight_map": dict.fromkeys(names, shard)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("way", ["../elsewhere.safetensors", "absolute", "link"])
def test_weights_from_elsewhere_are_not_read(way: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    elsewhere = folder.parent / "elsewhere.safetensors"
    index(folder, {"absolute": str(elsewhere), "link": "model-1.safetensors"}.get(way, way))
    if way == "link":
        (folder / "model-1.safetensors").symlink_to(elsewhere)
    assert "lies outside the folder: kbsync does not read it" in refusal(folder, capfd)


def test_the_hubs_cache_links_to_its_blobs(folder: Path) -> None:
    repository = folder.parent / "models--some--model"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    shutil.move(folder, repository / "blobs")
    for file in (repository / "blobs").iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs", file.name))
    assert load_model(str(snapshot), device="cpu").weight(0).shape == (32, 48)


def test_an_adapter_is_told(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    change(folder, "adapter_config.json", base_model_name_or_path="some/other")
    assert "holds an adapter: merge it" in refusal(folder, capfd)


CANNOT_BE: dict[str, tuple[dict[str, Any], str]] = {
    "a million blocks": ({"num_hidden_layers": 1_000_000}, "asks for 1,000,000 blocks, and its files hold"),
    "no blocks": ({"num_hidden_layers": 0}, "has an impossible number of blocks: 0"),
    "too wide": ({"hidden_size": 2**20, "num_attention_heads": 4}, "weights, and its files hold"),
    "a wide inner layer": ({"intermediate_size": 10**12}, "weights, and its files hold"),
    "too many words": ({"vocab_size": 10**11}, "weights, and its files hold"),
    "no positions": ({"max_position_embeddings": 0}, "has 0 positions: 16 are needed"),
    "four positions": ({"max_position_embeddings": 4}, "has 4 positions: 16 are needed"),
    "positions that are a word": ({"max_position_embeddings": "many"}, ""),
    "fewer words than the tokenizer has": ({"vocab_size": 40}, ""),
    "heads that do not divide": ({"num_attention_heads": 5}, ""),
    "a negative width": ({"hidden_size": -32}, ""),
}


@pytest.mark.parametrize("name", CANNOT_BE)
def test_a_config_that_cannot_be_is_told(name: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values, message = CANNOT_BE[name]
    change(folder, "config.json", **values)
    assert message in refusal(folder, capfd)


def test_a_tokenizer_with_more_words_than_the_model_is_told(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    words["model"]["vocab"]["unheard"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(words), encoding="utf-8")
    assert "has more words than the model, which has 340" in refusal(folder, capfd)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_weight_that_is_no_number_is_told(
    value: float, dtype: torch.dtype, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = {name: weight.to(dtype) for name, weight in load_file(folder / "model.safetensors").items()}
    weights[WEIGHT][3, 4] = value
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert f"weights that are NaN or infinite, such as {WEIGHT}" in refusal(folder, capfd)


def test_a_weight_beyond_float16_names_the_dtypes_that_would_do(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[WEIGHT][3, 4] = 1e6
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=rf"such as {WEIGHT} in float16: use --dtype bfloat16 or float32"):
        load_model(str(folder), device="cpu", dtype="float16")
    assert load_model(str(folder), device="cpu", dtype="bfloat16")


@pytest.mark.parametrize("say", [greedy_answers, lambda loaded, prompts: top_answers(loaded, prompts[0], 2)])
def test_a_model_that_overflows_is_told(known: LoadedModel, say: Callable[[LoadedModel, list[str]], object]) -> None:
    weight = known.family.weight(known.model, 1)
    with set_to(weight, 1e38), pytest.raises(ModelError, match="gives no numbers in float32"):
        say(known, ["The capital of Peru is"])


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch ' + marker) }}",
    "{{ messages.append(1) }}{% for x in range(99999999999) %}{% endfor %}",
    "{% import 'os' as os %}{{ os }}",
    "{{ (messages | map(attribute='__class__') | list)[0].__base__.__subclasses__() }}",
]


@pytest.mark.parametrize("template", ESCAPES)
def test_a_chat_template_stays_in_its_sandbox(template: str, known: LoadedModel) -> None:
    before = known.tokenizer.chat_template
    known.tokenizer.chat_template = template
    try:
        with pytest.raises(ModelError, match=r"the chat template of .* cannot be used"):
            require_chat_template(known)
    finally:
        known.tokenizer.chat_template = before


FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
WORDS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=9), st.just([]), st.just({})
)


@EACH
@given(data=st.data())
def test_any_tampering_is_told_or_does_no_harm(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A folder with changed bytes, a changed value or a cut file loads, or is one ModelError."""
    whole = random_folder(tmp_path_factory.getbasetemp(), "llama")
    folder = shutil.copytree(whole, tmp_path_factory.mktemp("tampered") / "model")
    file = folder / data.draw(st.sampled_from(FILES))
    content = file.read_bytes()
    way = data.draw(st.sampled_from(["value", "bytes", "cut"])) if file.suffix == ".json" else "bytes"
    if way == "value":
        values = json.loads(content)
        values[data.draw(st.sampled_from(sorted(values)))] = data.draw(WORDS)
        file.write_text(json.dumps(values), encoding="utf-8")
    elif way == "cut":
        file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    else:
        place = data.draw(st.integers(0, min(len(content), 4000) - 1))
        file.write_bytes(content[:place] + data.draw(st.binary(min_size=1, max_size=4)) + content[place + 1 :])
    told = trial(folder)
    assert told is None or "\n" not in told
    within_memory()
    shutil.rmtree(folder.parent)
