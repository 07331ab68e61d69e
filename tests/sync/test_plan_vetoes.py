"""Vetoes and aliases in the plan."""

from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.facts import Fact
from kbsync.ledger import Ledger
from kbsync.ledger.facts import lift_vetoes, record_aliases, record_vetoes, vetoes
from kbsync.sync.known import prompt_of
from kbsync.sync.plan import plan_for
from tests.ledger.helpers import apply, fact, model, new_edit, pull

PARIS, LYON = fact("Q142/France", "Q90/Paris"), fact("Q142/France", "Q456/Lyon")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def rows(home: Path) -> list[tuple[str, str | None, str | None, str]]:
    return [
        (row.sign, row.object, row.previous, row.reason.partition(" on ")[0]) for row in plan_for(home, "practice").rows
    ]


def applied(ledger: Ledger, stated: Fact) -> None:
    """The fact is read, and written in its template's words."""
    pull(ledger, stated)
    (row,) = plan_for(ledger.home, "practice").rows
    assert row.fact is not None
    assert row.request is not None
    edit = replace(new_edit(row.fact), prompt=row.request.prompt, request=row.request.id)
    apply(ledger, model(ledger), added=[edit])


def veto(ledger: Ledger, thing: str, *, any_object: bool) -> None:
    chosen = [row for row in ledger.facts(withdrawn=False) if row.object_label == thing]
    record_vetoes(ledger, chosen, any_object=any_object, reason=None)


def test_a_vetoed_fact_is_taken_out_and_stays_out(home: Path) -> None:
    with Ledger.open(home) as ledger:
        applied(ledger, PARIS)
        veto(ledger, "Paris", any_object=True)
        assert rows(home) == [("-", None, "Paris", "retracted by you")]
        assert not plan_for(home, "practice").in_sync
        (edit,) = ledger.active_edits("model:1")
        apply(ledger, "model:1", retracted=[edit.id])
        assert rows(home) == [("!", "Paris", None, "retracted by you")]
        assert plan_for(home, "practice").in_sync
        pull(ledger, LYON)
        assert rows(home) == [("!", "Lyon", None, "retracted by you")]
        lift_vetoes(ledger, [one.id for one in vetoes(ledger)])
        assert rows(home) == [("+", "Lyon", None, "new")]


def test_a_veto_on_one_object_lets_the_next_one_in(home: Path) -> None:
    with Ledger.open(home) as ledger:
        applied(ledger, PARIS)
        veto(ledger, "Paris", any_object=False)
        assert rows(home) == [("-", None, "Paris", "retracted by you")]
        pull(ledger, LYON)
        assert rows(home) == [("~", "Lyon", "Paris", "the object has changed")]


def test_a_veto_settles_a_conflict(home: Path) -> None:
    with Ledger.open(home) as ledger:
        model(ledger)
        pull(ledger, PARIS, LYON)
        assert [row[0] for row in rows(home)] == ["!"]
        veto(ledger, "Lyon", any_object=False)
        assert rows(home) == [("+", "Paris", None, "new"), ("!", "Lyon", None, "retracted by you")]
        assert plan_for(home, "practice").conflicts == ()


def test_an_edit_that_its_source_withdrew_is_not_laid_at_the_users_door(home: Path) -> None:
    with Ledger.open(home) as ledger:
        applied(ledger, PARIS)
        pull(ledger, LYON)
        veto(ledger, "Lyon", any_object=False)
        assert rows(home) == [
            ("-", None, "Paris", "withdrawn from the source"),
            ("!", "Lyon", None, "retracted by you"),
        ]


def test_a_reason_is_shown(home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull(ledger, PARIS)
        record_vetoes(ledger, ledger.facts(), any_object=True, reason="an error of the source")
    (row,) = plan_for(home, "practice").rows
    assert row.reason == f"retracted by you on {row.reason[20:30]}: an error of the source"


def test_an_alias_for_an_answer_makes_a_fact_known(home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull(ledger, fact("Q1/Ada", "Q145/United Kingdom", "P27"), relation="P27")
        key = model(ledger)
        (row,) = plan_for(home, "practice").rows
        assert row.request is not None
        asked = [prompt_of(row.request), *(text.format("Ada") for text in row.request.paraphrases)]
        ledger.record_answers(key, dict.fromkeys(asked, "the UK"))
        record_aliases(ledger, "s", {"Q145": ["UK"], "Q1": ["the UK"]})
        assert plan_for(home, "practice").rows[0].sign == "+"
        record_aliases(ledger, "t", {"Q145": ["The UK"]})
        known = plan_for(home, "practice").rows[0]
        assert known.sign == "k"
        assert known.request is not None
        assert known.request.aliases == ("The UK", "UK")
        assert known.request.id == row.request.id
