"""``apply --algorithm``: every editor writes through the same sync, and what only MEMIT can do is refused."""

from pathlib import Path

import pytest

from kbsync.editors import EDITORS
from tests.homes import (
    COUNTRIES,
    SWAPPED,
    WIDE,
    Editable,
    batches,
    deltas_of,
    difference,
    done,
    kbsync,
    make_home,
    pull,
    write_preset,
)
from tests.tiny_models import CAPITALS

A, B, C = COUNTRIES[:3]
TWO = {A: SWAPPED[A], B: SWAPPED[B]}
KNOWN = {country: CAPITALS[country] for country in COUNTRIES[4:13]}
OWN = {
    "memit": (),
    "rome": ("layer=1", "steps=5"),
    "rome-published": ("layer=1", "steps=5"),
    "ft": ("layer=2", "lr=0.001", "steps=5"),
    "mend": (),
    "alphaedit": ("threshold=0.5", "alpha=1"),
    "nas": ("threshold=0.5", "alpha=1"),
    "locft": ("layer=2", "lr=0.001", "steps=5"),
    "none": (),
}


def settings(name: str) -> list[str]:
    return [part for text in OWN[name] for part in ("--set", text)]


@pytest.mark.parametrize("name", EDITORS)
def test_every_editor_applies_and_is_on_record(name: str, small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36={**TWO, **KNOWN})
    if name == "mend":
        done("mend", "train", "--home", home, *small.model, "--steps", 2)
    applied = small.apply(home, "--algorithm", name, *settings(name))
    assert (applied["batch"], applied["edits"]) == (1, 2)
    batch = batches(home)[-1]
    assert (batch.state, batch.algorithm) == ("done", name)
    given = {text.partition("=")[0]: float(text.partition("=")[2]) for text in OWN[name]}
    assert given.items() <= batch.work.get("editor", {}).items()
    assert bool(deltas_of(home)) == (name != "none")
    assert small.apply(home, "--algorithm", name, *settings(name))["batch"] is None
    if name != "none":
        found = done("verify", "--home", home, *small.model, "--corpus", small.corpus)
        assert "everything is as recorded" in found.out


def test_the_state_depends_on_the_active_facts_alone(small: Editable, tmp_path: Path) -> None:
    """With a preset that holds other subjects, which is MEMIT's."""
    home = make_home(tmp_path / "home", P36={**TWO, **KNOWN})
    write_preset(home, "holding", small, hold_subjects=2)
    how = ("--model", "holding", "--algorithm", "rome", *settings("rome"), *WIDE, "--yes")
    done("apply", "--home", home, *how)
    first = deltas_of(home)
    pull(home, P36={**TWO, C: SWAPPED[C], **KNOWN})
    done("apply", "--home", home, *how)
    assert difference(deltas_of(home), first) > 1e-3
    done("retract", "--home", home, "--subject", C, "--relation", "P36", "--corpus", small.corpus, "--yes")
    assert batches(home)[-1].algorithm == "rome"
    assert difference(deltas_of(home), first) < 1e-4


def test_another_algorithm_makes_the_state_anew(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36={**TWO, **KNOWN})
    small.apply(home)
    assert small.apply(home, "--algorithm", "none")["batch"] == 2
    assert deltas_of(home) == {}
    again = small.apply(home)
    assert (again["batch"], again["optimised"]) == (3, 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--algorithm", "rune"), f"unknown editor 'rune'; known: {', '.join(EDITORS)}"),
        (("--algorithm", "ft", "--retry"), "--retry is for memit"),
        (("--algorithm", "rome", "--set", "layer=99"), "layer: 99 is too high"),
        (("--algorithm", "mend"), "run `kbsync mend train"),
    ],
)
def test_what_cannot_be_is_one_error_and_changes_nothing(
    arguments: tuple[str, ...], said: str, small: Editable, tmp_path: Path
) -> None:
    home = make_home(tmp_path / "home", P36={**TWO, **KNOWN})
    ran = kbsync("apply", "--home", home, *small.arguments, "--yes", *arguments)
    assert ran.code == 1
    assert said in ran.err.splitlines()[-1]
    assert all(batch.state == "failed" for batch in batches(home))
