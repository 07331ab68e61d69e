"""The exported checkpoint is the edited model."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from kbsync.errors import KbsyncError, LedgerError, SettingsError
from kbsync.ledger import Ledger
from kbsync.memit import edited
from kbsync.models import load_model
from kbsync.sync.export import ended_by_signals, export, unfinished
from kbsync.sync.home import Loading
from tests.e2e.commands import start
from tests.homes import SWAPPED, Editable, deltas_of, make_home

PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def home(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two edits."""
    facts = {country: SWAPPED[country] for country in ("France", "Norway")}
    made = make_home(tmp_path_factory.mktemp("export") / "home", P36=facts)
    small.apply(made)
    return made


def test_transformers_opens_it_and_it_says_the_same(small: Editable, home: Path, tmp_path: Path) -> None:
    done = export(home, small.name, tmp_path / "deep" / "out")
    assert (done.edits, done.batch, done.dtype, done.model) == (2, 1, "float32", small.name)
    opened = AutoModelForCausalLM.from_pretrained(done.folder)
    tokenizer = AutoTokenizer.from_pretrained(done.folder)
    loaded = load_model(small.name, device="cpu")
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    assert ids.tolist() == loaded.tokenizer(PROMPT, return_tensors="pt")["input_ids"].tolist()
    with torch.no_grad():
        said = opened(input_ids=ids).logits
        base = loaded.model(input_ids=ids).logits
        with edited(loaded, deltas_of(home)):
            wanted = loaded.model(input_ids=ids).logits
    assert torch.equal(said, wanted)
    assert not torch.equal(said, base)
    with Ledger.open(home, create=False) as ledger:
        sha256 = ledger.models()[0].weights_sha256
    record = json.loads((done.folder / "kbsync.json").read_text())
    assert record == {"model": small.name, "base_sha256": sha256, "batch": 1, "edits": 2}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_an_empty_folder_is_taken_and_a_full_one_is_not(small: Editable, home: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export(home, small.name, tmp_path / "out")
    held = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json", "kbsync.json"} <= set(held)
    (tmp_path / "file").write_text("mine")
    for target in ("out", "file"):
        with pytest.raises(SettingsError, match=f"{target} exists already: name a new folder with --to"):
            export(home, small.name, tmp_path / target)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == held
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_that_cannot_be_written(small: Editable, home: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(KbsyncError, match=r"cannot write .*file/out: "):
        export(home, small.name, tmp_path / "file" / "out")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_others_may_read_it_as_the_umask_says(
    umask: int, mode: int, small: Editable, home: Path, tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        done = export(home, small.name, tmp_path / "out")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in done.folder.iterdir()} == {mode}
    assert done.folder.stat().st_mode & 0o777 == 0o777 & ~umask


def test_nothing_was_applied(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36={"France": "Oslo"})
    with pytest.raises(LedgerError, match=r"nothing was applied to .*: run `kbsync apply` first"):
        export(home, small.name, tmp_path / "out")
    with pytest.raises(LedgerError, match="no ledger in"):
        export(tmp_path / "nohome", small.name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_offloaded_model_is_written_whole(small: Editable, home: Path, tmp_path: Path) -> None:
    export(home, small.name, tmp_path / "plain")
    done = export(home, small.name, tmp_path / "offloaded", loading=Loading("auto", max_memory={"cpu": "500KB"}))
    assert done.edits == 2
    plain, offloaded = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "offloaded"))
    assert plain.keys() == offloaded.keys()
    assert all(torch.equal(plain[name], offloaded[name]) for name in plain)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_takes_the_unfinished_folder_away(number: signal.Signals, tmp_path: Path) -> None:
    before = signal.getsignal(number)

    def write() -> None:
        with ended_by_signals(), unfinished(tmp_path) as made:
            made.mkdir()
            (made / "model.safetensors").write_bytes(b"half")
            signal.raise_signal(number)

    with pytest.raises(SystemExit) as ended:
        write()
    assert ended.value.code == 128 + number
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_export_that_is_ended_leaves_nothing_beside_its_target(
    number: signal.Signals, small: Editable, home: Path, tmp_path: Path
) -> None:
    target = tmp_path / "to" / "out"
    running = start(tmp_path, "export", "--model", small.name, "--home", home, "--to", target)
    running.wait_for(lambda: target.parent.exists() and any(target.parent.iterdir()))
    running.send(number)
    ended = running.end().code
    assert ended in (0, 128 + number), running.said  # it may have come too late
    assert list(target.parent.iterdir()) == ([] if ended else [target])


def test_the_next_export_takes_away_what_a_killed_one_left(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f".kbsync-export-{dead.pid}-0a", f".kbsync-export-{os.getpid()}-0b", ".kbsync-export-mine"):
        (tmp_path / name).mkdir()
    with unfinished(tmp_path) as made:
        made.mkdir()
        made.rename(tmp_path / "out")
    left = {f".kbsync-export-{os.getpid()}-0b", ".kbsync-export-mine", "out"}
    assert {path.name for path in tmp_path.iterdir()} == left
