"""The states that a model had: which edits were active after each batch, and making one of those states current again.

A done batch went on from the state of its `parent`, so a batch and its forebears make a line. Active after a batch are
the edits that its line wrote and did not end. The current line is done; done batches off it are rolled back.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple
from types import MappingProxyType
from typing import Any

from kbsync.errors import LedgerError
from kbsync.facts import INVERSE
from kbsync.ledger.db import Database, insert, now
from kbsync.ledger.decoding import columns, compact, objects_json
from kbsync.ledger.rows import BatchRow, ConflictNote, EditRow, EndingRow, Metric, MetricRow, NewEdit, RollbackRow
from kbsync.ledger.store import Ledger

_CHANGED_MEANWHILE = "the state has changed since this apply was planned: run it again"
_LEFT_A_STATE = ("done", "rolled back")


def start_batch(
    ledger: Ledger,
    model: str,
    algorithm: str,
    settings: Mapping[str, Any],
    device: str,
    work: Mapping[str, Any] = MappingProxyType({}),
) -> int:
    """Record that an apply runs, and return its batch. Like the next two only inside `Ledger.writer`."""
    row = {"model": model, "algorithm": algorithm, "settings": compact(settings), "device": device}
    with ledger.changing() as db:
        row |= {"work": compact(dict(work)), "started": now(), "state": "running"}
        return insert(db, "batches", row)


def fail_batch(
    ledger: Ledger, batch: int, reason: str, seconds: Mapping[str, float], metrics: Sequence[Metric] = ()
) -> None:
    """Record that a running batch failed; the model's state stays.

    Of its figures only those of the whole are kept, since its edits are not.
    """
    ended = {"state": "failed", "reason": reason, "seconds": compact(seconds)}
    with ledger.changing() as db:
        model = _model_of_running(db, batch)
        _record_metrics(db, batch, model, [metric for metric in metrics if metric.request is None])
        db.table("batches").update(batch, {**ended, "finished": now()})


def finish_batch(
    ledger: Ledger,
    batch: int,
    *,
    added: Sequence[NewEdit],
    superseded: Collection[int],
    retracted: Collection[int],
    metrics: Sequence[Metric],
    files: Mapping[str, str],
    seconds: Mapping[str, float],
    peak_memory_mb: float | None,
    conflicts: Sequence[ConflictNote] = (),
    reason: str | None = None,
    planned_on: int | None,
    covariances: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Make the new state current, in one transaction: the batch done, `added` active, the ended edits ended.

    `reason` says why it was done in spite of what its figures are; `planned_on` is the batch that was current when it
    was planned (None: the base model); `covariances` are the names of the files that it was solved with, and their
    contents' hashes.

    `superseded` and `retracted` are ids of active edits; active ones in neither stay as they are. Raises
    LedgerError, with nothing written, if another batch is current now, an edit to end is not active, or a subject
    would have two.
    """
    measured = {"seconds": compact(seconds), "peak_memory_mb": peak_memory_mb, "files": compact(files)}
    with ledger.changing() as db:
        model = _model_of_running(db, batch)
        current = ledger.current_batch(model)
        if (current and current.id) != planned_on:
            at = f"batch {current.id}" if current else "the base model"
            raise LedgerError(f"the model is at {at} now; {_CHANGED_MEANWHILE}")
        _end_edits(db, batch, model, superseded, "superseded")
        _end_edits(db, batch, model, retracted, "retracted")
        sql = f"INSERT INTO edits (batch, model, state, {columns(NewEdit)}) VALUES (?, ?, 'active'{10 * ', ?'})"
        for edit in added:
            try:
                db.execute(sql, (batch, model, *astuple(edit)))
            except sqlite3.IntegrityError as error:
                if "UNIQUE" not in str(error):
                    raise
                said = f"{edit.relation} of {edit.subject} has an active edit already"
                raise LedgerError(f"{said}; {_CHANGED_MEANWHILE}") from error
        _record_metrics(db, batch, model, metrics)
        notes = [
            (batch, one.relation, one.subject_key, one.subject, objects_json(one.objects), one.resolution)
            for one in conflicts
        ]
        sql = "INSERT INTO conflicts (batch, relation, subject_key, subject, objects, resolution) VALUES (?,?,?,?,?,?)"
        db.conn.executemany(sql, notes)
        ended = {"state": "done", "reason": reason, "finished": now(), "parent": current and current.id}
        db.table("batches").update(batch, {**ended, **measured})
        solved_with = "UPDATE batches SET work = json_set(work, '$.covariances', json(?)) WHERE id = ?"
        db.execute(solved_with, [compact(dict(covariances)), batch])


def _model_of_running(db: Database, batch: int) -> str:
    found = db.execute("SELECT model, state FROM batches WHERE id = ?", [batch]).fetchone()
    if found is None or found[1] != "running":
        state = "missing" if found is None else found[1]
        raise LedgerError(f"batch {batch} is {state}, not running: run apply again")
    return str(found[0])


def _end_edits(db: Database, batch: int, model: str, edits: Collection[int], state: str) -> None:
    ids = sorted(set(edits))
    ended = db.conn.executemany(
        "UPDATE edits SET state = ?, ended_by = ? WHERE id = ? AND model = ? AND state = 'active'",
        [(state, batch, edit, model) for edit in ids],
    )
    if ids and ended.rowcount != len(ids):
        raise LedgerError(f"of {len(ids)} edits to be {state}, {ended.rowcount} are active; {_CHANGED_MEANWHILE}")
    rows = [(batch, edit, state) for edit in ids]
    db.conn.executemany("INSERT INTO endings (batch, edit, state) VALUES (?, ?, ?)", rows)


def _record_metrics(db: Database, batch: int, model: str, metrics: Sequence[Metric]) -> None:
    """Find each figure's edit by its request: among those that this batch ended, and, above them, the active ones."""
    sql = """SELECT request, id FROM edits WHERE model = ? AND (state = 'active' OR ended_by = ?)
        ORDER BY state = 'active', id"""
    edits = dict(db.execute(sql, [model, batch]))
    unknown = {metric.request for metric in metrics if metric.request is not None and metric.request not in edits}
    if unknown:
        raise ValueError(f"metrics of requests that are no edits of this model: {sorted(unknown)[:5]}")
    rows = [(batch, one.request and edits[one.request], one.name, one.before, one.after) for one in metrics]
    db.conn.executemany('INSERT INTO metrics (batch, edit, name, "before", "after") VALUES (?, ?, ?, ?, ?)', rows)


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
    return ledger.select(EditRow, "edits", "WHERE model = ? ORDER BY id", model)


def strange_edits(ledger: Ledger) -> set[int]:
    """Return the edits that are not about the subject and relation of the fact that they name, or its inverse."""
    sql = """SELECT edits.id FROM edits LEFT JOIN facts ON facts.id = edits.fact
        WHERE (facts.relation, facts.subject_key) IS NOT (edits.relation, edits.subject_key)
        AND (? || facts.relation, facts.subject_key) IS NOT (edits.relation, edits.object_key)"""
    return {edit for (edit,) in ledger.query(sql, INVERSE)}


def has_inverses(ledger: Ledger, model: str) -> bool:
    """Tell whether inverse facts are among a model's active edits."""
    sql = "SELECT EXISTS (SELECT 1 FROM edits WHERE model = ? AND state = 'active' AND substr(relation, 1, 1) = ?)"
    return bool(ledger.query(sql, model, INVERSE)[0][0])


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
    return {edit for (edit,) in ledger.query(sql, model, model)}


def endings(ledger: Ledger, model: str | None = None) -> list[EndingRow]:
    """Return which batch ended which edit: of one model or of all, oldest first."""
    which = "WHERE batch IN (SELECT id FROM batches WHERE model = ifnull(?, model)) ORDER BY batch, edit"
    return ledger.select(EndingRow, "endings", which, model)


def rollbacks(ledger: Ledger, model: str | None = None) -> list[RollbackRow]:
    """Return the rollbacks of one model or of all, oldest first."""
    return ledger.select(RollbackRow, "rollbacks", "WHERE model = ifnull(?, model) ORDER BY id", model)


def rollback_count(ledger: Ledger) -> int:
    """Return how many rollbacks there have been: a command that takes long to begin sees that one came before it."""
    return int(ledger.query("SELECT count(*) FROM rollbacks")[0][0])


def roll_back(ledger: Ledger, model: str, batch: int | None) -> None:
    """Make the state after `batch` current, in one transaction; None is the base model.

    Batches and edits get the states that they had then, later ones become rolled back; a batch that was rolled back can
    be gone forward to. Nothing is deleted.
    """
    with ledger.writing() as db:
        batches = ledger.batches(model)
        reached = next((row for row in batches if row.id == batch), None)
        if batch is not None and (reached is None or reached.state not in _LEFT_A_STATE):
            raise LedgerError(f"batch {batch} left no state of this model: `kbsync history` lists those that did")
        current = ledger.current_batch(model)
        line = set(line_of(batches, batch))
        done = [("done" if row.id in line else "rolled back", row.id) for row in batches if row.state in _LEFT_A_STATE]
        db.conn.executemany("UPDATE batches SET state = ? WHERE id = ?", done)
        edits = edits_of(ledger, model)
        states = states_after(edits, endings(ledger, model), line)
        changed = [(*states[edit.id], edit.id) for edit in edits if states[edit.id] != (edit.state, edit.ended_by)]
        # Those that end go first: a subject has one active edit at most at every moment (edits_active).
        changed.sort(key=lambda change: change[0] == "active")
        db.conn.executemany("UPDATE edits SET state = ?, ended_by = ? WHERE id = ?", changed)
        moved = {"model": model, "from_batch": current.id if current else None, "to_batch": batch, "time": now()}
        insert(db, "rollbacks", moved)


def record_figures(ledger: Ledger, batch: int, metrics: Sequence[Metric]) -> None:
    """Add figures over the whole of a batch; those of the same name that it has stay on record before them."""
    rows = [(batch, metric.name, metric.before, metric.after) for metric in metrics]
    with ledger.writing() as db:
        db.conn.executemany('INSERT INTO metrics (batch, name, "before", "after") VALUES (?, ?, ?, ?)', rows)
