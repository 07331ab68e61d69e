"""Recording an apply: its batch, the edits that it wrote and ended, and what was measured."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kbsync.errors import LedgerError
from kbsync.ledger.connection import Database, insert, now
from kbsync.ledger.pulls import objects_json
from kbsync.ledger.reading import columns, compact
from kbsync.ledger.rows import ConflictNote, Metric, NewEdit

__all__ = ["end_interrupted", "fail_batch", "finish_batch", "start_batch"]

_CHANGED_MEANWHILE = "the ledger has changed since this apply was planned: run it again"


def start_batch(
    db: Database, model: str, algorithm: str, settings: Mapping[str, Any], device: str, work: Mapping[str, Any]
) -> int:
    """Write a running batch and return its id."""
    row = {"model": model, "algorithm": algorithm, "settings": compact(settings), "device": device}
    row["work"] = compact(work)
    return insert(db, "batches", {**row, "started": now(), "state": "running"})


def end_interrupted(db: Database) -> None:
    """Mark running batches failed. Right for the holder of the writer's lock alone: their process has died."""
    failed = "UPDATE batches SET state = 'failed', reason = 'interrupted', finished = ? WHERE state = 'running'"
    db.execute(failed, [now()])


def fail_batch(
    db: Database, batch: int, reason: str, seconds: Mapping[str, float], metrics: Sequence[Metric] = ()
) -> None:
    """Mark a running batch failed; of its figures only those of the whole are kept, since its edits are not."""
    model = _model_of_running(db, batch)
    _record_metrics(db, batch, model, [metric for metric in metrics if metric.request is None])
    ended = {"state": "failed", "reason": reason, "finished": now(), "seconds": compact(seconds)}
    db.table("batches").update(batch, ended)


def finish_batch(
    db: Database,
    batch: int,
    *,
    added: Sequence[NewEdit],
    superseded: Collection[int],
    retracted: Collection[int],
    metrics: Sequence[Metric],
    files: Mapping[str, str],
    seconds: Mapping[str, float],
    peak_memory_mb: float | None,
    conflicts: Sequence[ConflictNote],
    reason: str | None,
) -> None:
    """Make a running batch the model's newest done one. The caller holds the transaction."""
    model = _model_of_running(db, batch)
    newest = "SELECT max(id) FROM batches WHERE model = ? AND state = 'done'"
    parent = db.execute(newest, [model]).fetchone()[0]
    _end_edits(db, batch, model, superseded, "superseded")
    _end_edits(db, batch, model, retracted, "retracted")
    _add_edits(db, batch, model, added)
    _record_metrics(db, batch, model, metrics)
    _record_conflicts(db, batch, conflicts)
    measured = {"seconds": compact(seconds), "peak_memory_mb": peak_memory_mb, "files": compact(files)}
    ended = {"state": "done", "reason": reason, "finished": now(), "parent": parent}
    db.table("batches").update(batch, {**ended, **measured})


def _model_of_running(db: Database, batch: int) -> str:
    found = db.execute("SELECT model, state FROM batches WHERE id = ?", [batch]).fetchone()
    if found is None or found[1] != "running":
        state = "missing" if found is None else found[1]
        raise LedgerError(f"batch {batch} is {state}, not running: run apply again")
    return str(found[0])


def _end_edits(db: Database, batch: int, model: str, edits: Collection[int], state: str) -> None:
    ended = db.conn.executemany(
        "UPDATE edits SET state = ?, ended_by = ? WHERE id = ? AND model = ? AND state = 'active'",
        [(state, batch, edit, model) for edit in set(edits)],
    )
    if edits and ended.rowcount != len(set(edits)):
        raise LedgerError(f"of {len(edits)} edits to be {state}, {ended.rowcount} are active; {_CHANGED_MEANWHILE}")
    rows = [(batch, edit, state) for edit in sorted(set(edits))]
    db.conn.executemany("INSERT INTO endings (batch, edit, state) VALUES (?, ?, ?)", rows)


def _add_edits(db: Database, batch: int, model: str, added: Sequence[NewEdit]) -> None:
    sql = f"""INSERT INTO edits (batch, model, state, {columns(NewEdit)})
        VALUES (?, ?, 'active', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
    for edit in added:
        about = (edit.fact, edit.relation, edit.subject_key, edit.subject, edit.object_key, edit.object)
        try:
            db.execute(sql, (batch, model, *about, edit.prompt, edit.request, edit.target, edit.retries))
        except sqlite3.IntegrityError as error:
            if "UNIQUE" not in str(error):
                raise
            said = f"{edit.relation} of {edit.subject} has an active edit already"
            raise LedgerError(f"{said}; {_CHANGED_MEANWHILE}") from error


def _record_metrics(db: Database, batch: int, model: str, metrics: Sequence[Metric]) -> None:
    """Find each figure's edit by its request: among those that this batch ended, and, above them, the active ones."""
    sql = """SELECT request, id FROM edits WHERE model = ? AND (state = 'active' OR ended_by = ?)
        ORDER BY state = 'active', id"""
    edits = dict(db.execute(sql, [model, batch]))
    unknown = {metric.request for metric in metrics if metric.request is not None and metric.request not in edits}
    if unknown:
        raise ValueError(f"metrics of requests that are no edits of this model: {sorted(unknown)[:5]}")
    db.conn.executemany(
        'INSERT INTO metrics (batch, edit, name, "before", "after") VALUES (?, ?, ?, ?, ?)',
        [
            (batch, metric.request and edits[metric.request], metric.name, metric.before, metric.after)
            for metric in metrics
        ],
    )


def _record_conflicts(db: Database, batch: int, conflicts: Sequence[ConflictNote]) -> None:
    db.conn.executemany(
        "INSERT INTO conflicts (batch, relation, subject_key, subject, objects, resolution) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (batch, note.relation, note.subject_key, note.subject, objects_json(note.objects), note.resolution)
            for note in conflicts
        ],
    )
