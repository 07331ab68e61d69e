"""A calibration by the command line on the small model: what it tries, keeps, chooses and writes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kbsync.memit.extensions.calibration import CHANCE, PERPLEXITY_GROWTH
from tests.homes import SWAPPED, WIDE, Editable, copied, done, kbsync, keep, make_home, pull, snapshot
from tests.tiny_models import CAPITALS

KEYS = {"model", "facts", "trace", "suggested", "base", "trials", "chosen", "from_record", "preset"}
QUICK = ("steps=8", "weight_decay=0.01", "contexts=1", "clamp_norm_factor=6", "layers=1,2", "sequence_length=64")


def calibrate(home: Path, small: Editable, *more: object) -> tuple[object, ...]:
    settings = [part for text in QUICK for part in ("--set", text)]
    return ("calibrate", "--home", home, *small.model, "--corpus", small.corpus, "--facts", 10, *settings, *more)


@pytest.fixture(scope="module")
def first(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A home with what the model knows, calibrated and written as `found`, and the JSON. Not to be changed."""
    home = make_home(tmp_path_factory.mktemp("calibrated") / "home", P36=CAPITALS)
    found = done(*calibrate(home, small, "--write", "found", "--json")).json
    return keep(home), found


@pytest.fixture
def home(first: tuple[Path, Any]) -> Iterator[Path]:
    with copied(first[0]) as home:
        yield home


def test_what_led_to_it(first: tuple[Path, Any]) -> None:
    found = first[1]
    assert found.keys() == KEYS
    assert found["facts"] == {"source": "ledger", "asked": 20, "known": 20, "edits": 10}
    assert len(found["trace"]["layers"]) == 4
    assert found["trace"]["clean"] > found["trace"]["corrupted"]
    windows = {tuple(trial["layers"]) for trial in found["trials"]}
    assert {tuple(found["suggested"]), (1, 2)} <= windows
    assert {260.0, 26.0} <= {trial["lambda"] for trial in found["trials"]}  # m = 256, and a tenth of it
    assert found["base"]["NS"] == 100
    assert found["from_record"] == 0


def test_the_best_within_the_bound_is_chosen(first: tuple[Path, Any]) -> None:
    found = first[1]
    worked = [trial for trial in found["trials"] if trial["reason"] is None]
    assert worked
    for trial in worked:
        assert trial["within_bound"] == (trial["perplexity"] <= PERPLEXITY_GROWTH * found["base"]["perplexity"])
    bounded = [trial["S"] for trial in worked if trial["within_bound"]]
    assert found["chosen"] in found["trials"]
    assert found["chosen"]["S"] >= max(bounded, default=0) - CHANCE


def test_a_window_that_cannot_be_solved_is_a_trial_without_figures(first: tuple[Path, Any]) -> None:
    """Keys of the first block lie in few dimensions here, as the model has few words."""
    failed = [trial for trial in first[1]["trials"] if trial["reason"] is not None]
    assert all("not positive definite" in trial["reason"] for trial in failed)
    assert all(0 in trial["layers"] for trial in failed)
    assert not any("S" in trial for trial in failed)


def test_the_preset_is_a_model_of_this_home(home: Path, first: tuple[Path, Any], small: Editable) -> None:
    chosen = first[1]["chosen"]
    written = yaml.safe_load((home / "presets" / "found.yaml").read_text(encoding="utf-8"))
    assert (written["model"], written["corpus"]) == (str(Path(small.name).resolve()), str(small.corpus))
    assert written["settings"]["layers"] == chosen["layers"]
    assert (written["settings"]["steps"], written["settings"]["contexts"]) == (8, 1)
    pull(home, P36={**CAPITALS, "France": SWAPPED["France"]})
    assert done("plan", "--home", home, "--model", "found", "--json").json["model"] == "found"
    done("apply", "--home", home, "--model", "found", "--yes", "--json", "--limit", 2, *WIDE)
    status = done("status", "--home", home, "--model", "found", "--probe", "--json").json
    assert status["model"] == "found"
    assert "ES" in status["metrics"]
    done("ask", "--home", home, "--model", "found", "The capital of France is")
    done("verify", "--home", home, "--model", "found")
    done("stats", "--home", home, "--model", "found")
    done("stats", "export", home / "shared.safetensors", "--home", home, "--model", "found")
    done("stats", "import", home / "shared.safetensors", "--home", home, "--model", "found")


def test_a_second_run_makes_no_trial_again(home: Path, first: tuple[Path, Any], small: Editable) -> None:
    before = snapshot(home)
    again = done(*calibrate(home, small, "--json")).json
    assert again["from_record"] == len(again["trials"]) == len(first[1]["trials"])
    assert {**again, "from_record": 0, "preset": None} == {**first[1], "preset": None}
    assert snapshot(home) == before


def test_a_run_that_was_broken_off_goes_on(home: Path, first: tuple[Path, Any], small: Editable) -> None:
    files = sorted((home / "calibrations").iterdir())
    for file in files[:3]:
        file.unlink()
    again = done(*calibrate(home, small, "--json")).json
    assert again["from_record"] == len(files) - 3
    assert again["trials"] == first[1]["trials"]


def test_it_is_shown(home: Path, first: tuple[Path, Any], small: Editable) -> None:
    ran = done(*calibrate(home, small))
    told = [line for line in ran.err.splitlines() if line.startswith("trial ")]
    assert len(told) == len(first[1]["trials"])
    assert re.match(r"trial 1: layers 1-2, lambda 499, clamp 6: (S [\d.]+, recall|the keys)", told[0])
    assert "knows 20 of 20 facts of the ledger that it was asked about; each trial edits 10" in ran.out
    assert "no edits" in ran.out
    assert "chosen: --set layers=" in ran.out
    assert "not written: --write NAME" in ran.out


def test_names_that_are_taken_or_none(home: Path, small: Editable) -> None:
    ran = kbsync(*calibrate(home, small, "--write", "found"))
    assert (ran.code, "exists already: choose another name for --write" in ran.err) == (1, True)
    for name in ("../found", "", ".hidden", "a b"):
        ran = kbsync(*calibrate(home, small, "--write", name))
        assert (ran.code, "a preset's name has letters" in ran.err) == (1, True)


def test_too_few_known_facts(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36=SWAPPED)
    ran = kbsync(*calibrate(home, small))
    assert ran.code == 1
    assert "knows 0 of the 20 facts that it was asked about, and calibrate needs 10 at least" in ran.err


def test_without_facts_the_fixtures_serve_and_a_relation_narrows(small: Editable, tmp_path: Path) -> None:
    ran = kbsync(*calibrate(tmp_path / "home", small, "--relation", "P30"))
    assert ran.code == 1
    assert "knows 0 of the" in ran.err  # continents: not what this model learnt
    ran = kbsync(*calibrate(tmp_path / "home", small, "--relation", "P9999999"))
    assert (ran.code, "have facts of P9999999 that have a template: pull some first" in ran.err) == (1, True)
