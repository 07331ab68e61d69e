"""Weak edits: what is not recalled is shown, tried again with more steps and a larger clamp, and stays so strong."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.ledger import Ledger
from kbsync.ledger.edits import not_recalled
from kbsync.memit import MemitSettings
from kbsync.sync.deltas import stronger
from tests.homes import (
    COUNTRIES,
    SWAPPED,
    Editable,
    active,
    copied,
    deltas_of,
    difference,
    done,
    kbsync,
    keep,
    make_home,
    pull,
)
from tests.tiny_models import CAPITALS

NEW = {country: SWAPPED[country] for country in COUNTRIES[:4]}
KNOWN = {country: CAPITALS[country] for country in COUNTRIES[4:8]}
ABLE = [
    part for text in ("layers=0", "lambda=0.1", "lr=2", "clamp_norm_factor=4", "steps=40") for part in ("--set", text)
]
"""with these the small model learns some of them"""
WEAK = ("--set", "steps=3")
"""too few for any of the edits"""


@pytest.fixture(scope="module")
def kept(small: Editable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = make_home(tmp_path_factory.mktemp("retry") / "home", P36={**NEW, **KNOWN})
    small.apply(home, *WEAK)
    return keep(home)


@pytest.fixture
def home(kept: Path) -> Iterator[Path]:
    with copied(kept) as home:
        yield home


def lost(home: Path) -> set[str]:
    with Ledger.open(home, create=False) as ledger:
        key = ledger.models()[0].key
        edits = {edit.id: edit.subject for edit in ledger.active_edits(key)}
        return {edits[edit] for edit in not_recalled(ledger, key)}


def test_stronger_settings() -> None:
    settings = MemitSettings(steps=40, clamp_norm_factor=1.0)
    assert stronger(settings, 0) == settings
    assert [(one.steps, one.clamp_norm_factor) for one in (stronger(settings, 1), stronger(settings, 2))] == [
        (80, 1.5), (160, 2.25)
    ]  # fmt: skip


def test_what_is_not_recalled_is_x_and_an_ordinary_apply_leaves_it(home: Path, small: Editable) -> None:
    assert lost(home)
    assert done("plan", "--home", home, *small.model, "--json").json["counts"]["x"] == len(lost(home))
    again = small.apply(home, *WEAK)
    assert (again["batch"], again["planned"]) == (None, None)


def test_retry_searches_those_alone_and_they_stay_strong(home: Path, small: Editable, tmp_path: Path) -> None:
    weak, before = lost(home), active(home)
    ran = kbsync("apply", "--home", home, *small.arguments, *WEAK, "--retry", "--yes")
    assert ran.code == 0, ran.err
    assert f"again: {len(weak)} edits, with 6 steps and a clamp of 4.5" in ran.err
    edits = active(home)
    for subject, edit in edits.items():
        assert edit.retries == (1 if subject in weak else 0)
        assert (edit.target == before[subject].target) == (subject not in weak)
        assert (edit.batch == 1) == (subject not in weak)
    with Ledger.open(home, create=False) as ledger:
        work = ledger.batches()[1].work
        assert (work["optimise"], work["from_cache"]) == (len(weak), len(edits) - len(weak))
        assert work["again"] == [{"edits": len(weak), "steps": 6, "clamp_norm_factor": 4.5}]
    # A later apply takes the strong targets from the cache, and its state is that of one batch with them.
    strong = deltas_of(home)
    pull(home, P36={**NEW, **KNOWN, "Chile": "Warsaw"})
    applied = small.apply(home, *WEAK)
    assert (applied["optimised"], applied["from_cache"]) == (1, 4)
    pull(home, P36={**NEW, **KNOWN})
    assert small.apply(home, *WEAK)["optimised"] == 0
    assert difference(deltas_of(home), strong) < 1e-4
    assert active(home).keys() == NEW.keys()
    assert {edit.retries for subject, edit in active(home).items() if subject in weak} == {1}
    found = done("verify", "--home", home, *small.model, "--corpus", small.corpus)
    assert "everything is as recorded" in found.out


def test_a_second_retry_is_stronger_yet_and_helps(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36={**NEW, **KNOWN})
    small.apply(home, *ABLE, *WEAK)
    at_first = len(lost(home))
    for retries in (1, 2, 3):
        weak = lost(home)
        if not weak:
            break
        applied = small.apply(home, *ABLE, *WEAK, "--retry")
        assert {active(home)[subject].retries for subject in weak} == {retries}
        assert {row["subject"] for row in applied["failed"]} == lost(home) & weak
    assert len(lost(home)) < at_first
    assert applied["metrics"]["recall"]["before"] == 0


def test_what_still_fails_is_listed_with_its_rival(home: Path, small: Editable) -> None:
    applied = small.apply(home, "--set", "steps=1", "--retry")
    (first, *_) = applied["failed"]
    assert first.keys() == {"subject", "relation", "object", "probability", "rival", "rival_probability"}
    assert first["object"] == NEW[first["subject"]]
    assert first["rival"] == CAPITALS[first["subject"]]
    assert 0 <= first["probability"] < first["rival_probability"] <= 1


def test_rolled_back_to_the_weak_ones(home: Path, small: Editable) -> None:
    weak, before = lost(home), deltas_of(home)
    small.apply(home, *WEAK, "--retry")
    done("rollback", "--home", home, "1", "--yes")
    assert difference(deltas_of(home), before) == 0
    assert lost(home) == weak
    assert {edit.retries for edit in active(home).values()} == {0}


def test_a_kept_edit_that_is_lost_to_others_is_told(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36={**NEW, **KNOWN})
    small.apply(home, *ABLE)
    held = NEW.keys() - lost(home)
    assert held
    pull(home, P36={**NEW, **KNOWN, "Chile": "Warsaw"})
    small.apply(home, *ABLE, "--set", "lambda=100000")  # so large that next to nothing is written
    assert held < lost(home)
