"""Ctrl-C in each phase of an apply, and two commands at once."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.ledger import Ledger
from tests.e2e.commands import Running, start
from tests.homes import SWAPPED, Editable, done, kbsync, make_home, pull, small_model

FACTS = {country: SWAPPED[country] for country in ("France", "Norway", "Japan", "Egypt", "Peru", "Cuba", "Greece")}
TRIES = 5
"""a command may be through a phase before the signal comes"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Editable:
    """The small model with phases that are not over before a signal comes."""
    model = small_model(tmp_path_factory.getbasetemp())
    return replace(model, settings=(*model.settings, "steps=20", "sweeps=3", "contexts=2"))


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("interrupt") / "home", P36=FACTS)


def begin(home: Path, model: Editable, folder: Path, phase: str) -> Running:
    """Start an apply and wait for the phase to begin; of the search, until it has found something."""
    running = start(folder, "apply", *model.arguments, "--yes", "--home", home)
    found = (lambda: any((home / "tensors").glob("*.safetensors"))) if phase == "targets" else None
    running.wait_for(found or (lambda: any(line.startswith(phase) for line in running.said)))
    return running


@pytest.mark.parametrize("phase", ["targets", "covariance", "solve", "measuring before", "measuring after"])
def test_ctrl_c_keeps_what_was_found_and_says_how_to_go_on(
    phase: str, pulled: Path, small: Editable, tmp_path: Path
) -> None:
    for number in range(TRIES):
        home = Path(shutil.copytree(pulled, tmp_path / f"home{number}"))
        running = begin(home, small, tmp_path, phase)
        running.send(signal.SIGINT)
        ran = running.end()
        if ran.code:
            break
    assert ran.code == 130, ran.err
    assert ran.err.splitlines()[-1] == ("Interrupted: nothing is left half done; run the same command to go on")
    assert "Traceback" not in ran.err
    with Ledger.open(home, create=False) as ledger:
        (batch,) = ledger.batches()
        assert (batch.state, batch.reason) == ("failed", "interrupted")
        kept = len(ledger.targets())
    # Amid the search, all that its first batch would have found may still be missing.
    assert kept == len(FACTS) or phase == "targets"
    applied = small.apply(home)
    assert (applied["edits"], applied["from_cache"]) == (len(FACTS), kept)


def test_two_applies_and_a_pull_at_once(small: Editable, tmp_path: Path) -> None:
    """The first apply is held in the middle of its work: what it planned is what it writes."""
    home = make_home(tmp_path / "home", P36=FACTS)
    running = begin(home, small, tmp_path, "covariance")
    running.send(signal.SIGSTOP)
    try:
        for second in (("apply", *small.arguments, "--yes"), ("rollback", "0", "--yes")):
            ran = kbsync(*second, "--home", home)
            assert ran.code == 1
            error = ran.err.splitlines()[-1]
            assert error.startswith(f"Error: process {running.process.pid} (apply {small.name}, since 20")
            assert error.endswith("wait for it to end, then run again")
        pull(home, P36={**FACTS, "France": "Lima", "Kenya": "Riga"})
        assert done("status", "--home", home, *small.model, "--json").json["counts"]["+"] == len(FACTS) + 1
    finally:
        running.send(signal.SIGCONT)
    assert running.end().code == 0
    counts = done("status", "--home", home, *small.model, "--json").json["counts"]
    assert (counts["="] + counts["x"], counts["~"], counts["+"]) == (len(FACTS) - 1, 1, 1)
    assert small.apply(home)["edits"] == len(FACTS) + 1


def test_the_lock_of_a_killed_apply_is_taken_over(pulled: Path, small: Editable, tmp_path: Path) -> None:
    home = Path(shutil.copytree(pulled, tmp_path / "home"))
    running = begin(home, small, tmp_path, "covariance")
    running.send(signal.SIGKILL)
    assert running.end().code == -signal.SIGKILL
    assert f'"pid": {running.process.pid}' in (home / "lock").read_text()
    assert small.apply(home)["batch"] == 2
    with Ledger.open(home, create=False) as ledger:
        assert [(batch.state, batch.reason) for batch in ledger.batches()] == [
            ("failed", "interrupted"),
            ("done", None),
        ]


def test_a_retract_that_was_killed_is_told_and_can_be_given_again(
    pulled: Path, small: Editable, tmp_path: Path
) -> None:
    home = Path(shutil.copytree(pulled, tmp_path / "home"))
    small.apply(home)
    command = ("retract", "--subject", "France", "--relation", "P36", "--yes", "--home", home)
    running = start(tmp_path, *command, "--corpus", small.corpus)
    running.wait_for(lambda: any(line.startswith("loading") for line in running.said))
    running.send(signal.SIGKILL)
    assert running.end().code == -signal.SIGKILL
    left = done("status", "--home", home, "--json").json["notes"][-1]
    assert left.startswith("retracted but still in the model: P36 of France; run the `kbsync retract` again, or")
    assert left.removeprefix("retracted but ") in " ".join(done("status", "--home", home).out.split())
    assert done(*command, "--corpus", small.corpus, "--json").json["applied"]["edits"] == len(FACTS) - 1
    assert done("status", "--home", home, "--json").json["notes"] == []
