"""Wordings are ranked by how often they give the object; and facts are written before endings that subjects share."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.errors import SettingsError
from kbsync.ledger import Ledger
from kbsync.sync.edits import measure_wordings
from kbsync.sync.home import AS_STORED, silent
from tests.homes import TEMPLATES, Editable, batches, deltas_of, difference, done, kbsync, make_home, pull
from tests.tiny_models import CAPITALS

WRONG = "Unlike {}, the capital of France is"
OWN = "{} has its capital in"


def measure(home: Path, small: Editable, facts: int = 100) -> dict[str, Any]:
    return measure_wordings(home, "P36", small.name, facts, AS_STORED, silent)


def test_trained_wordings_come_before_one_that_the_model_never_saw(small: Editable, tmp_path: Path) -> None:
    templates = TEMPLATES.replace("  question:", f"    - {WRONG}\n  wordings: ['{OWN}']\n  question:")
    home = make_home(tmp_path / "home", templates, P36={**CAPITALS, "Atlantis": "Poseidonis"})
    measured = measure(home, small)
    assert (measured["asked"], measured["known"]) == (len(CAPITALS) + 1, len(CAPITALS))
    assert len(measured["wordings"]) == 7
    kinds = {one["text"]: one["kind"] for one in measured["wordings"]}
    assert (kinds["The capital of {} is"], kinds[OWN], kinds[WRONG]) == ("prompt", "wording", "paraphrase")
    assert measured["wordings"][0]["share"] == 100.0
    right = [one["right"] for one in measured["wordings"]]
    assert right == sorted(right, reverse=True)
    (wrong,) = [one for one in measured["wordings"] if one["text"] == WRONG]
    assert wrong["right"] < right[0]
    with Ledger.open(home, create=False) as ledger:
        asked = ledger.prompts_answered(ledger.models()[0].key)
    assert len(asked) == 7 * (len(CAPITALS) + 1)
    assert measure(home, small) == measured
    assert measure(home, small, facts=3)["asked"] == 3


def test_what_cannot_be_measured_is_told(small: Editable, tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", P36={"Atlantis": "Poseidonis"})
    with pytest.raises(SettingsError, match="knows none of the 1 facts in any wording"):
        measure(home, small)
    with pytest.raises(SettingsError, match="the ledger has no facts of it"):
        measure_wordings(home, "P17", small.name, 5, AS_STORED, silent)


def test_facts_are_written_before_the_ending_that_their_subjects_share(small: Editable, tmp_path: Path) -> None:
    """Whenever the second such subject came: the state, and what `verify` and `explain` make of it, are the same."""
    model = replace(small, settings=(*small.settings, "shared_endings=true"))
    teams = {"Peru football team": "Paris"}
    later = {**teams, "Cuba football team": "Lima"}
    one, other = tmp_path / "one", make_home(tmp_path / "other", P36=teams)
    model.apply(other, "--include-known")
    assert "endings" not in batches(other)[-1].work
    make_home(one, P36=later)
    pull(other, P36=later)
    for home in (one, other):
        model.apply(home, "--include-known")
        assert batches(home)[-1].work["endings"] == {"P36": [" football team"]}
        done("verify", "--home", home, *model.solving[:4])
    assert difference(deltas_of(one), deltas_of(other)) < 1e-4
    plain = make_home(tmp_path / "plain", P36=later)
    small.apply(plain, "--include-known")
    assert difference(deltas_of(one), deltas_of(plain)) > 0.01
    told = done("explain", "--home", one, *small.model, "Peru football team P36", "--json").json
    assert sum(told["wordings"][0]["delivered"].values()) > 0.5, "the delta arrives where it was written"


def test_a_state_made_without_a_key_of_the_other_kind_is_made_anew(small: Editable, tmp_path: Path) -> None:
    model = replace(small, settings=(*small.settings, "wordings=2"))
    home = make_and_apply(model, tmp_path / "home")
    assert batches(home)[-1].work["keys"] == [["P36", "Peru football team", "{}"]]
    verify = ("verify", "--home", home, *model.solving[:4])
    done(*verify)
    with Ledger.open(home) as ledger, ledger.writing() as db:
        db.execute("UPDATE batches SET work = json_remove(work, '$.keys')")
    assert "had no key for prompts of another kind" in kbsync(*verify).out
    assert model.apply(home, "--include-known")["optimised"] == 0
    done(*verify)
    assert "keys" not in batches(make_and_apply(small, tmp_path / "plain"))[-1].work


def make_and_apply(model: Editable, home: Path) -> Path:
    make_home(home, P36={"Peru football team": "Paris"})
    model.apply(home, "--include-known")
    return home
