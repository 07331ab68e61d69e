"""Going back and forth between the states that a model had: batches, edits and files are those of then."""

import random

import pytest

from kbsync.errors import LedgerError
from kbsync.ledger import FactRow, Ledger
from kbsync.ledger.edits import active_after, edits_of, fail_batch, roll_back, rollbacks, start_batch
from tests.ledger.helpers import apply, dump, fact, finish, model, new_edit, pull


@pytest.fixture
def key(ledger: Ledger) -> str:
    return model(ledger)


def read(ledger: Ledger, *facts: str) -> dict[str, FactRow]:
    """Pull facts written as subject and object letters (``Ax``); return them by subject."""
    pull(ledger, *(fact(text[0], text[1]) for text in facts))
    return {row.subject_label: row for row in ledger.facts(withdrawn=False)}


def active(ledger: Ledger, key: str) -> dict[str, str]:
    return {edit.subject: edit.object for edit in ledger.active_edits(key)}


def edit_ids(ledger: Ledger, key: str) -> dict[str, int]:
    return {edit.subject: edit.id for edit in ledger.active_edits(key)}


def batch_states(ledger: Ledger) -> dict[int, str]:
    return {batch.id: batch.state for batch in ledger.batches()}


@pytest.fixture
def three(ledger: Ledger, key: str) -> None:
    """1 writes A and B; 2 changes A, takes B out and writes C; 3 changes C."""
    rows = read(ledger, "Ax", "Bx")
    apply(ledger, key, added=[new_edit(rows["A"]), new_edit(rows["B"])], files={"d1": "aa"})
    rows, edits = read(ledger, "Ay", "Cx"), edit_ids(ledger, key)
    added = [new_edit(rows["A"]), new_edit(rows["C"])]
    apply(ledger, key, added=added, superseded=[edits["A"]], retracted=[edits["B"]], files={"d2": "bb"})
    rows, edits = read(ledger, "Ay", "Cz"), edit_ids(ledger, key)
    apply(ledger, key, added=[new_edit(rows["C"])], superseded=[edits["C"]], files={"d3": "cc"})


STATES = {None: {}, 1: {"A": "x", "B": "x"}, 2: {"A": "y", "C": "x"}, 3: {"A": "y", "C": "z"}}


@pytest.mark.usefixtures("three")
def test_each_batch_names_the_one_before_it(ledger: Ledger) -> None:
    assert [(batch.id, batch.parent) for batch in ledger.batches()] == [(1, None), (2, 1), (3, 2)]


@pytest.mark.usefixtures("three")
def test_any_state_can_be_gone_to_from_any_other(ledger: Ledger, key: str) -> None:
    for to in (2, None, 3, 1, 3, None, 1, 2):
        assert {edit.subject: edit.object for edit in active_after(ledger, key, to)} == STATES[to]
        roll_back(ledger, key, to)
        assert active(ledger, key) == STATES[to]
        current = ledger.current_batch(key)
        assert (current.id if current else None) == to
        assert batch_states(ledger) == {batch: "done" if batch <= (to or 0) else "rolled back" for batch in (1, 2, 3)}
    moves = [(one.from_batch, one.to_batch) for one in rollbacks(ledger, key)]
    assert moves == [(3, 2), (2, None), (None, 3), (3, 1), (1, 3), (3, None), (None, 1), (1, 2)]
    assert rollbacks(ledger, "model:other") == []


@pytest.mark.usefixtures("three")
def test_there_and_back_changes_nothing_but_the_record(ledger: Ledger, key: str) -> None:
    before = [line for line in dump(ledger) if '"rollbacks"' not in line and "'rollbacks'" not in line]
    roll_back(ledger, key, 1)
    ended = {(edit.subject, edit.object): (edit.state, edit.ended_by) for edit in edits_of(ledger, key)}
    assert ended == {
        ("A", "x"): ("active", None),
        ("B", "x"): ("active", None),
        ("A", "y"): ("rolled back", None),
        ("C", "x"): ("rolled back", None),
        ("C", "z"): ("rolled back", None),
    }
    roll_back(ledger, key, 3)
    assert [line for line in dump(ledger) if '"rollbacks"' not in line and "'rollbacks'" not in line] == before


@pytest.mark.usefixtures("three")
def test_an_apply_goes_on_from_the_state_gone_back_to(ledger: Ledger, key: str) -> None:
    roll_back(ledger, key, 1)
    rows, edits = read(ledger, "Az", "Bx"), edit_ids(ledger, key)
    four = apply(ledger, key, added=[new_edit(rows["A"])], superseded=[edits["A"]])
    assert active(ledger, key) == {"A": "z", "B": "x"}
    assert ledger.batches()[-1].parent == 1
    assert batch_states(ledger) == {1: "done", 2: "rolled back", 3: "rolled back", four: "done"}
    # The edit that 2 and 4 both ended says which of them ended it in the state that is current.
    first = edits["A"]
    for to, ended_by in ((2, 2), (four, four), (3, 2)):
        roll_back(ledger, key, to)
        assert {edit.id: edit.ended_by for edit in edits_of(ledger, key)}[first] == ended_by
    assert active(ledger, key) == STATES[3]
    assert batch_states(ledger)[four] == "rolled back"


@pytest.mark.usefixtures("three")
def test_only_batches_that_left_a_state_can_be_gone_to(ledger: Ledger, key: str) -> None:
    other = model(ledger, "model:2", "gpt-j")
    with ledger.writer("apply"):
        failed = start_batch(ledger, key, "memit", {}, "cpu")
        fail_batch(ledger, failed, "no memory", {})
    before = dump(ledger)
    for to, model_key in ((failed, key), (99, key), (1, other)):
        with pytest.raises(LedgerError, match=f"batch {to} left no state of this model"):
            roll_back(ledger, model_key, to)
    assert dump(ledger) == before
    roll_back(ledger, key, 1)
    assert batch_states(ledger)[failed] == "failed"


@pytest.mark.usefixtures("three")
def test_another_models_state_stays(ledger: Ledger, key: str) -> None:
    other = model(ledger, "model:2", "gpt-j")
    rows = read(ledger, "Ay", "Cz")
    four = apply(ledger, other, added=[new_edit(rows["A"])])
    roll_back(ledger, key, None)
    assert active(ledger, other) == {"A": "y"}
    assert batch_states(ledger)[four] == "done"
    assert ledger.batches()[-1].parent is None


def test_states_that_come_back_are_those_that_were(ledger: Ledger, key: str) -> None:
    """Sixty random applies and rollbacks; each state that is gone to is what was active when its batch was made."""
    chance = random.Random(3)
    seen: dict[int | None, dict[str, str]] = {None: {}}
    for _ in range(60):
        if chance.random() < 0.4:
            to = chance.choice(list(seen))
            roll_back(ledger, key, to)
            assert active(ledger, key) == seen[to]
            continue
        rows = read(ledger, *(f"{subject}{chance.choice('xyz')}" for subject in "ABCDE" if chance.random() < 0.7))
        now = {edit.subject: edit for edit in ledger.active_edits(key)}
        changed = [s for s, row in rows.items() if s in now and now[s].object != row.object_label]
        with ledger.writer("apply"):
            batch = start_batch(ledger, key, "memit", {}, "cpu")
            finish(
                ledger,
                batch,
                added=[new_edit(row) for s, row in rows.items() if s not in now or s in changed],
                superseded=[now[s].id for s in changed],
                retracted=[edit.id for s, edit in now.items() if s not in rows],
            )
        seen[batch] = active(ledger, key)
        assert seen[batch] == {s: row.object_label for s, row in rows.items()}
    assert len(rollbacks(ledger)) > 10
