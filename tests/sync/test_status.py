"""Status reads the ledger alone."""

from pathlib import Path

import pytest

from kbsync.errors import LedgerError, SettingsError
from kbsync.facts import Entity, Fact
from kbsync.ledger import Ledger, Metric
from kbsync.ledger.edits import fail_batch, start_batch
from kbsync.ledger.facts import record_vetoes
from kbsync.sync.plan import plan_for
from kbsync.sync.status import status_for, used_model
from tests.ledger.helpers import apply, fact, model, new_edit, pull


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_the_diff_and_the_figures_of_the_current_batch(home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull(ledger, fact("Q142/France", "Q90/Paris"), fact("Q96/Mexico", "Q1489/Mexico City"))
        key = model(ledger)
        rows = ledger.facts()
        request = new_edit(rows[0]).request
        apply(ledger, key, metrics=[Metric("ES", 1.0, 2.0)])
        batch = apply(
            ledger,
            key,
            added=[new_edit(rows[0])],
            metrics=[Metric("ES", 0.0, 100.0), Metric("NS", None, 98.0), Metric("ES", 0.0, 100.0, request)],
        )
        with ledger.writer("apply"):
            fail_batch(ledger, start_batch(ledger, key, "memit", {}, "cpu"), "no memory", {})
    status = status_for(home, "practice")
    assert status["plan"] == plan_for(home, "practice")
    assert {row.subject: row.sign for row in status["plan"].rows} == {"France": "~", "Mexico": "+"}  # another wording
    assert status["batch"] is not None
    assert status["batch"].id == batch
    assert status["metrics"] == {"ES": {"before": 0.0, "after": 100.0}, "NS": {"before": None, "after": 98.0}}


def test_the_model_used_last_is_meant(home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull(ledger, fact("Q142/France", "Q90/Paris"))
        model(ledger, "model:1", "practice")
        model(ledger, "model:2", "gpt-j")
        assert used_model(home) == "gpt-j"
        model(ledger, "model:1", "practice")
    assert used_model(home) == "practice"
    assert status_for(home, None)["plan"].model == "practice"
    assert (status_for(home, "gpt-j")["plan"].model, status_for(home, "gpt-j")["batch"]) == ("gpt-j", None)


def test_a_model_that_was_never_edited(home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull(ledger, fact("Q142/France", "Q90/Paris"))
    status = status_for(home, "practice")
    assert (status["batch"], status["metrics"]) == (None, {})
    assert status["plan"].counts["+"] == 1
    without = status_for(home, None)
    assert (without["plan"].model, without["batch"], without["plan"].counts["+"]) == ("", None, 1)
    with pytest.raises(SettingsError, match="no model has been edited here yet"):
        used_model(home)


def test_no_ledger(home: Path) -> None:
    for ask in (lambda: status_for(home, None), lambda: used_model(home)):
        with pytest.raises(LedgerError, match="run `kbsync pull` first"):
            ask()


def test_ten_thousand_facts(home: Path) -> None:
    with Ledger.open(home) as ledger:
        for relation in ("P17", "P36"):
            facts = [
                Fact(Entity(f"Place {n}", f"Q{n}"), relation, Entity(f"Thing {n % 90}", f"Q9{n % 90}"))
                for n in range(5000)
            ]
            pull(ledger, *facts, relation=relation)
        key = model(ledger)
        edited = [new_edit(row) for row in ledger.facts(["P17"])[:1000]]
        apply(ledger, key, added=edited)
    status = status_for(home, None)
    assert len([*status["plan"].rows]) == 10_000
    assert (status["plan"].counts["+"], status["plan"].counts["~"]) == (9000, 1000)


def test_what_was_begun_and_has_not_ended(home: Path) -> None:
    with Ledger.open(home) as ledger:
        pull(ledger, fact("Q142/France", "Q90/Paris"), fact("Q96/Mexico", "Q1489/Mexico City"))
        key = model(ledger)
        apply(ledger, key, added=[new_edit(row) for row in ledger.facts()])
        assert status_for(home, None)["notes"] == []
        with ledger.writer("apply"):
            start_batch(ledger, key, "memit", {}, "cpu")
            (running,) = status_for(home, None)["notes"]
        (ended,) = status_for(home, None)["notes"]  # the lock is free: the process has gone without a word
        mexico = [row for row in ledger.facts() if row.subject_label == "Mexico"]
        record_vetoes(ledger, mexico, any_object=True, reason="")
    assert running.startswith("an apply is running since 20")
    assert ended == (
        "the last apply (batch 2) was interrupted and changed nothing: `kbsync apply --model practice` goes on"
    )
    assert status_for(home, "practice")["notes"] == [
        ended,
        "retracted but still in the model: P36 of Mexico; run the `kbsync retract` again, or"
        " `kbsync apply --model practice`",
    ]
    assert status_for(home, "gpt-j")["notes"] == []
