"""The states that a model had: which edits were active after each batch, and making one of those states current again.

A done batch went on from the state of its `parent`, so a batch and its forebears make a line. Active after a batch are
the edits that its line wrote and did not end. The current line is done; done batches off it are rolled back.
"""

import json
from collections.abc import Collection, Iterable, Mapping

from kbsync.errors import LedgerError
from kbsync.ledger.connection import Database, insert, now, telling
from kbsync.ledger.rows import BatchRow, EditRow, EndingRow, MetricRow, RollbackRow
from kbsync.ledger.store import Ledger

__all__ = [
    "EditState",
    "active_after",
    "edits_about",
    "edits_of",
    "endings",
    "line_of",
    "metrics_of",
    "not_recalled",
    "roll_back",
    "rollbacks",
    "states_after",
]

EditState = tuple[str, int | None]
"""(state, ended_by) of an edit"""


def line_of(batches: Iterable[BatchRow], batch: int | None) -> list[int]:
    """Return a batch and its forebears, newest first; none for the base model (None)."""
    parents = {row.id: row.parent for row in batches}
    line = []
    while batch is not None and batch in parents:
        line.append(batch)
        batch = parents[batch]
    return line


def states_after(edits: Iterable[EditRow], endings: Iterable[EndingRow], line: Collection[int]) -> dict[int, EditState]:
    """Return the state that each of a model's edits has where `line` is the current one."""
    ended = {ending.edit: (ending.state, ending.batch) for ending in endings if ending.batch in line}
    return {
        edit.id: ended.get(edit.id, ("active", None)) if edit.batch in line else ("rolled back", None) for edit in edits
    }


def active_after(ledger: Ledger, model: str, batch: int | None) -> list[EditRow]:
    """Return the edits that were active after a batch of the model, oldest first, with their states of now."""
    edits = edits_of(ledger, model)
    states = states_after(edits, endings(ledger, model), set(line_of(ledger.batches(model), batch)))
    return [edit for edit in edits if states[edit.id][0] == "active"]


def edits_of(ledger: Ledger, model: str) -> list[EditRow]:
    """Return all edits of a model, whatever their state, oldest first."""
    return ledger.select(EditRow, "edits", "WHERE model = ? ORDER BY id", model)


def edits_about(ledger: Ledger, subjects: Collection[tuple[str, str]]) -> list[EditRow]:
    """Return the edits about these (relation, subject key), of every model and whatever their state, oldest first."""
    which = "WHERE (relation, subject_key) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?)) ORDER BY id"
    return ledger.select(EditRow, "edits", which, json.dumps(sorted(subjects)))


def metrics_of(ledger: Ledger, edits: Collection[int]) -> list[MetricRow]:
    """Return the figures of these edits in every batch, in the order of the batches."""
    which = "WHERE edit IN (SELECT value FROM json_each(?)) ORDER BY batch, id"
    return ledger.select(MetricRow, "metrics", which, json.dumps(sorted(edits)))


def not_recalled(ledger: Ledger, model: str) -> set[int]:
    """Return the active edits that the model's present state does not recall, by the newest figure of each."""
    # With max(), SQLite takes `after` from the row that has it.
    sql = """SELECT edit FROM (SELECT edit, after, max(id) FROM metrics WHERE name = 'recall'
        AND edit IN (SELECT id FROM edits WHERE model = ? AND state = 'active')
        AND batch IN (SELECT id FROM batches WHERE model = ? AND state = 'done') GROUP BY edit) WHERE after < 100"""
    with telling(ledger.path):
        return {int(row[0]) for row in ledger.db.execute(sql, [model, model]).fetchall()}


def endings(ledger: Ledger, model: str | None = None) -> list[EndingRow]:
    """Return which batch ended which edit: of one model or of all, oldest first."""
    which = "WHERE batch IN (SELECT id FROM batches WHERE model = ifnull(?, model)) ORDER BY batch, edit"
    return ledger.select(EndingRow, "endings", which, model)


def rollbacks(ledger: Ledger, model: str | None = None) -> list[RollbackRow]:
    """Return the rollbacks of one model or of all, oldest first."""
    return ledger.select(RollbackRow, "rollbacks", "WHERE model = ifnull(?, model) ORDER BY id", model)


def roll_back(ledger: Ledger, model: str, batch: int | None) -> None:
    """Make the state after `batch` current, in one transaction; None is the base model.

    Batches and edits get the states that they had then, later ones become rolled back; a batch that was rolled back
    can be gone forward to. Nothing is deleted. Raises LedgerError for a batch that left no state of this model.
    """
    with ledger.writing() as db:
        batches = ledger.batches(model)
        reached = next((row for row in batches if row.id == batch), None)
        if batch is not None and (reached is None or reached.state not in ("done", "rolled back")):
            raise LedgerError(f"batch {batch} left no state of this model: `kbsync history` lists those that did")
        current = ledger.current_batch(model)
        line = set(line_of(batches, batch))
        edits = edits_of(ledger, model)
        _set_batches(db, batches, line)
        _set_edits(db, edits, states_after(edits, endings(ledger, model), line))
        moved = {"model": model, "from_batch": current.id if current else None, "to_batch": batch, "time": now()}
        insert(db, "rollbacks", moved)


def _set_batches(db: Database, batches: Iterable[BatchRow], line: Collection[int]) -> None:
    with_state = [row.id for row in batches if row.state in ("done", "rolled back")]
    db.conn.executemany(
        "UPDATE batches SET state = ? WHERE id = ?",
        [("done" if batch in line else "rolled back", batch) for batch in with_state],
    )


def _set_edits(db: Database, edits: Iterable[EditRow], states: Mapping[int, EditState]) -> None:
    changed = [(*states[edit.id], edit.id) for edit in edits if states[edit.id] != (edit.state, edit.ended_by)]
    # Those that end go first: a subject has one active edit at most at every moment (edits_active).
    changed.sort(key=lambda change: change[0] == "active")
    db.conn.executemany("UPDATE edits SET state = ?, ended_by = ? WHERE id = ?", changed)
