"""An apply's batch: the new state becomes current in one transaction, and what was stays on record."""

import sqlite3
from typing import Any

import pytest

from kbsync.errors import LedgerError
from kbsync.facts import Entity
from kbsync.ledger import ConflictNote, FactRow, Ledger, Metric
from kbsync.ledger.edits import fail_batch, start_batch
from tests.ledger.helpers import apply, dump, fact, finish, model, new_edit, pull


@pytest.fixture
def key(ledger: Ledger) -> str:
    return model(ledger)


@pytest.fixture
def rows(ledger: Ledger, key: str) -> dict[str, FactRow]:
    """Facts by subject."""
    pull(ledger, fact("A", "x"), fact("B", "x"), fact("C", "x"))
    return {row.subject_label: row for row in ledger.facts()}


def active(ledger: Ledger, key: str) -> list[tuple[str, str, int]]:
    return [(edit.subject, edit.object, edit.batch) for edit in ledger.active_edits(key)]


def test_three_applies(ledger: Ledger, key: str, rows: dict[str, FactRow]) -> None:
    one = apply(ledger, key, added=[new_edit(rows["A"]), new_edit(rows["B"])], files={"d1": "aa"})
    assert active(ledger, key) == [("A", "x", one), ("B", "x", one)]
    edits = {edit.subject: edit.id for edit in ledger.active_edits(key)}

    pull(ledger, fact("A", "y"), fact("C", "x"))
    changed = {row.subject_label: row for row in ledger.facts()}
    two = apply(
        ledger,
        key,
        added=[new_edit(changed["A"]), new_edit(changed["C"])],
        superseded=[edits["A"]],
        retracted=[edits["B"]],
        files={"d2": "bb"},
    )
    assert active(ledger, key) == [("A", "y", two), ("C", "x", two)]
    ended = {edit.subject: (edit.object, edit.state, edit.ended_by) for edit in ledger.edits(one)}
    assert ended == {"A": ("x", "superseded", two), "B": ("x", "retracted", two)}

    three = apply(ledger, key)  # nothing new: what was kept stays with the batch that wrote it
    assert active(ledger, key) == [("A", "y", two), ("C", "x", two)]
    current = ledger.current_batch(key)
    assert current is not None
    assert current.id == three
    assert [batch.id for batch in ledger.batches(key)] == [one, two, three]


def test_a_batch_keeps_what_it_was_given(ledger: Ledger, key: str) -> None:
    with ledger.writer("apply"):
        batch = start_batch(ledger, key, "memit", {"steps": 25, "kl_factor": 0.0625}, "cuda:0")
        (running,) = ledger.batches()
        assert (running.state, running.finished, running.files, running.seconds) == ("running", None, {}, {})
        finish(ledger, batch, files={"d": "aa"}, seconds={"targets": 1.5, "total": 2.0}, peak_memory_mb=12.5)
    (row,) = ledger.batches()
    assert (row.id, row.model, row.algorithm, row.device) == (batch, key, "memit", "cuda:0")
    assert row.settings == {"steps": 25, "kl_factor": 0.0625}
    assert (row.files, row.seconds, row.peak_memory_mb) == ({"d": "aa"}, {"targets": 1.5, "total": 2.0}, 12.5)
    assert row.state == "done"
    assert row.finished is not None
    assert row.finished >= row.started


def test_a_failed_batch_changes_no_state(ledger: Ledger, key: str, rows: dict[str, FactRow]) -> None:
    one = apply(ledger, key, added=[new_edit(rows["A"])])
    with ledger.writer("apply"):
        batch = start_batch(ledger, key, "memit", {}, "cpu")
        figures = [Metric("perplexity", 3.4, 90.0), Metric("ES", 0.0, 100.0, "request1:never written")]
        fail_batch(ledger, batch, "perplexity rose from 3.4 to 90", {"targets": 3.0}, figures)
    failed = ledger.batches()[-1]
    assert (failed.state, failed.reason, failed.seconds) == (
        "failed",
        "perplexity rose from 3.4 to 90",
        {"targets": 3.0},
    )
    assert [(row.name, row.before, row.after, row.edit) for row in ledger.metrics(batch)] == [
        ("perplexity", 3.4, 90.0, None)
    ]
    current = ledger.current_batch(key)
    assert current is not None
    assert current.id == one
    with ledger.writer("apply"):
        with pytest.raises(LedgerError, match=f"batch {batch} is failed, not running"):
            finish(ledger, batch)
        with pytest.raises(LedgerError, match=f"batch {batch} is failed, not running"):
            fail_batch(ledger, batch, "again", {})
        with pytest.raises(LedgerError, match="batch 99 is missing"):
            finish(ledger, 99)


def test_models_have_states_of_their_own(ledger: Ledger, key: str, rows: dict[str, FactRow]) -> None:
    other = model(ledger, "model:2", "gpt-j")
    apply(ledger, key, added=[new_edit(rows["A"])])
    assert ledger.current_batch(other) is None
    two = apply(ledger, other, added=[new_edit(rows["A"])])
    assert active(ledger, other) == [("A", "x", two)]
    assert [batch.id for batch in ledger.batches(other)] == [two]
    with pytest.raises(LedgerError, match="1 edits to be retracted, 0 are active"):
        apply(ledger, other, retracted=[ledger.active_edits(key)[0].id])


# What cannot be: given -> the message.
REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "two objects for a subject": ({"added": ["A", "B"]}, LedgerError, "P36 of A has an active edit already"),
    "an edit that is not there": (
        {"added": ["B"], "superseded": [77]},
        LedgerError,
        "0 are active; the state has changed",
    ),
    "another batch is current": (
        {"added": ["B"], "planned_on": None},
        LedgerError,
        "the model is at batch 1 now; the state has changed since this apply was planned: run it again",
    ),
    "a metric of no edit": ({"added": ["B"], "metrics": [Metric("ES", 0, 1, "request1:none")]}, ValueError, "no edits"),
    "an unknown target": ({"added": ["B"], "target": "z9"}, sqlite3.IntegrityError, "FOREIGN KEY"),
}


@pytest.mark.parametrize(("given", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refused_finish_writes_nothing(
    ledger: Ledger,
    key: str,
    rows: dict[str, FactRow],
    given: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    apply(ledger, key, added=[new_edit(rows["A"])])
    target = given.get("target")
    rest = {name: value for name, value in given.items() if name != "target"}
    rest["added"] = [new_edit(rows[subject], target) for subject in reversed(rest["added"])]
    with ledger.writer("apply"):
        batch = start_batch(ledger, key, "memit", {}, "cpu")
        before = dump(ledger)
        with pytest.raises(error, match=message):
            finish(ledger, batch, **rest)
        assert dump(ledger) == before


def test_metrics_find_their_edits(ledger: Ledger, key: str, rows: dict[str, FactRow]) -> None:
    kept, old = new_edit(rows["A"]), new_edit(rows["B"])
    apply(ledger, key, added=[kept, old])
    first = {edit.subject: edit.id for edit in ledger.active_edits(key)}
    # B is made again with the same request (as --retry does): the figure is the new edit's.
    batch = apply(
        ledger,
        key,
        added=[old, new_edit(rows["C"])],
        superseded=[first["B"]],
        metrics=[
            Metric("ES", 1.5, 99.0),
            Metric("perplexity", None, 3.4),
            Metric("recall", 0.0, 100.0, kept.request),
            Metric("recall", 0.0, 100.0, old.request),
        ],
    )
    second = {edit.subject: edit.id for edit in ledger.edits(batch)}
    assert [(row.edit, row.name, row.before, row.after) for row in ledger.metrics(batch)] == [
        (None, "ES", 1.5, 99.0),
        (None, "perplexity", None, 3.4),
        (first["A"], "recall", 0.0, 100.0),
        (second["B"], "recall", 0.0, 100.0),
    ]
    retracted = apply(ledger, key, retracted=[second["C"]], metrics=[Metric("ES", 100, 0, new_edit(rows["C"]).request)])
    assert [row.edit for row in ledger.metrics(retracted)] == [second["C"]]


def test_conflicts_that_an_apply_met_are_recorded_with_it(ledger: Ledger, key: str) -> None:
    note = ConflictNote("P36", "Q1", "A", (Entity("x", "Q2"), Entity("y")), "first: x")
    batch = apply(ledger, key, conflicts=[note])
    (row,) = ledger.conflicts(batch=batch)
    assert (row.pull, row.batch, row.objects, row.resolution) == (None, batch, note.objects, "first: x")
    assert ledger.conflicts(batch=batch + 1) == []


def test_views_show_the_state_in_words(ledger: Ledger, key: str) -> None:
    pull(ledger, *(fact(subject, "x") for subject in "ABCDE"))
    rows = {row.subject_label: row for row in ledger.facts()}
    one = apply(ledger, key, added=[new_edit(rows[subject]) for subject in "ABCE"])
    pull(ledger, fact("A", "x"), fact("B", "y"), fact("D", "x"), fact("E", "x"), fact("E", "y"), fact("F", "x"))
    status = {
        (row["subject"], row["object"]): (row["state"], row["edited_object"], row["model"], row["batch"])
        for row in ledger.db.query("SELECT * FROM v_status")
    }
    assert status == {
        ("A", "x"): ("in sync", "x", "practice", one),
        ("B", "y"): ("changed since the edit", "x", "practice", one),
        ("C", "x"): ("withdrawn, still edited", "x", "practice", one),
        ("D", "x"): ("not edited", None, None, None),
        ("E", "x"): ("in conflict", "x", "practice", one),
        ("E", "y"): ("in conflict", "x", "practice", one),
        ("F", "x"): ("not edited", None, None, None),
    }
    apply(ledger, key, retracted=[edit.id for edit in ledger.active_edits(key) if edit.subject == "C"])
    states = dict(ledger.db.execute("SELECT subject, state FROM v_status WHERE subject = 'C'"))
    assert states == {"C": "withdrawn"}
    edits = list(ledger.db.query("SELECT subject, prompt, object, state, ended_by FROM v_edits WHERE subject = 'C'"))
    assert edits == [
        {"subject": "C", "prompt": "The P36 of C is", "object": "x", "state": "retracted", "ended_by": one + 1}
    ]
