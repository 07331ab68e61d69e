"""Facts of a data set: their own prompts go from the file through the ledger into plan, apply and status."""

import json
from pathlib import Path

import pytest

from kbsync.facts import EditRequest, Wording
from kbsync.ledger import Ledger
from kbsync.resources import fixtures_folder
from kbsync.sync.plan import plan_for
from kbsync.sync.status import overview_for
from tests.homes import COUNTRIES, SWAPPED, Editable, done, kbsync, make_home, small

__all__ = ["small"]

PROMPT, OTHER, CAPITAL = "{} is governed from its capital", "The government of {} sits in", "The capital of {} is"


def counterfact(path: Path, facts: dict[str, str], prompt: str = PROMPT, relation: str = "P9000") -> Path:
    """Write a CounterFact file that asks for these objects."""
    records = [
        {
            "requested_rewrite": {
                "prompt": prompt,
                "relation_id": relation,
                "target_new": {"str": thing},
                "target_true": {"str": "somewhere"},
                "subject": subject,
            },
            "paraphrase_prompts": [OTHER.format(subject), "Nobody is named here"],
        }
        for subject, thing in facts.items()
    ]
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_a_fact_keeps_its_wording_and_needs_no_template(home: Path, tmp_path: Path) -> None:
    source = counterfact(tmp_path / "counterfact.json", {"France": "Rome", "{Japan}": "[red]Oslo"})
    ran = done("pull", "--home", home, "--source", source, "--relation", "P9000")
    assert "No template" not in ran.out
    assert "prompt that does not name its subject: 2" in ran.out
    with Ledger.open(home, create=False) as ledger:
        assert {row.subject_label: row.wording for row in ledger.facts()} == {
            "France": Wording(PROMPT, (OTHER,)),
            "{Japan}": Wording(PROMPT, (OTHER,)),
        }
    for rows in (plan_for(home, "practice").rows, overview_for(home, "practice").rows):
        assert [(row.sign, row.request) for row in rows] == [
            ("+", EditRequest("P9000", "France", PROMPT, "Rome", (OTHER,))),
            ("+", EditRequest("P9000", "{Japan}", PROMPT, "[red]Oslo", (OTHER,))),
        ]


def test_another_wording_of_the_same_fact_is_taken_over(home: Path, tmp_path: Path) -> None:
    for prompt in (PROMPT, "They rule {} from"):
        source = counterfact(tmp_path / "counterfact.json", {"France": "Rome"}, prompt)
        (pull,) = done("pull", "--home", home, "--source", source, "--relation", "P9000", "--json").json["pulls"]
    assert (pull["unchanged"], pull["own_wordings"]) == (1, 1)
    (row,) = plan_for(home, "practice").rows
    assert row.request is not None
    assert row.request.prompt == "They rule {} from"


def test_a_prompt_that_a_template_makes_too_is_a_conflict(home: Path, tmp_path: Path) -> None:
    make_home(home, P36={"France": "Paris"})
    source = counterfact(tmp_path / "counterfact.json", {"france": "Rome"}, CAPITAL)
    done("pull", "--home", home, "--source", source, "--relation", "P9000")
    assert plan_for(home, "practice").counts["!"] == overview_for(home, "practice").counts["!"] == 1


@pytest.mark.parametrize(("name", "relation"), [("counterfact-practice", "P364"), ("zsre-practice", "zsRE")])
def test_the_practice_data_sets_can_be_pulled_and_planned(name: str, relation: str, home: Path) -> None:
    source = fixtures_folder() / f"{name}.json"
    (pull,) = done("pull", "--home", home, "--source", source, "--relation", relation, "--json").json["pulls"]
    assert pull["new"] == pull["own_wordings"] > 10
    counts = done("plan", "--home", home, "--model", "practice", "--json").json["counts"]
    assert counts["?"] == 0
    assert counts["+"] > 10


def test_bad_records_are_told(home: Path, tmp_path: Path) -> None:
    source = counterfact(tmp_path / "counterfact.json", {"France": "", "Japan": "Rome"})
    ran = kbsync("pull", "--home", home, "--source", source, "--relation", "P9000")
    assert ran.code == 1
    assert "record 0: `str` is not a text" in ran.err


def test_apply_edits_with_it_and_keeps_it(home: Path, tmp_path: Path, small: Editable) -> None:
    country, other = COUNTRIES[:2]
    make_home(home, P36={country: SWAPPED[country]})
    source = counterfact(tmp_path / "counterfact.json", {other: SWAPPED[other]}, CAPITAL)
    done("pull", "--home", home, "--source", source, "--relation", "P9000")
    first = small.apply(home, "--relation", "P9000")
    assert first["edits"] == 1
    with Ledger.open(home, create=False) as ledger:
        (edit,) = ledger.active_edits(ledger.models()[0].key)
    assert (edit.prompt, edit.object) == (CAPITAL, SWAPPED[other])
    second = small.apply(home)  # the first one is kept
    assert second["edits"] == 2
    counts = done("status", "--home", home, *small.model, "--json").json["counts"]
    assert counts["="] + counts["x"] == 2  # one may not be recalled: the model is small
