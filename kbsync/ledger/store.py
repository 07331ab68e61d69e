"""`Ledger`: the one way to read and write a home.

What takes a ledger is in `pulls` (readings of sources), `facts` (looking them up) and `edits` (what applies wrote).
"""

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

from kbsync.errors import LedgerError
from kbsync.ledger.db import RESULT_PATIENCE_SECONDS, Database, WriterLock, connect, immediate, now, telling
from kbsync.ledger.decoding import broken_seals, columns, compact, raw, seal, select, wrong_value
from kbsync.ledger.migrations import STEPS, migrate
from kbsync.ledger.rows import (
    BatchRow,
    ConflictRow,
    EditRow,
    EndingRow,
    FactRow,
    HistoryRow,
    MetricRow,
    ModelRow,
    PullRow,
    RollbackRow,
    SkippedRow,
    TargetRow,
    VetoRow,
)
from kbsync.ledger.tensors import sweep

Row = TypeVar("Row")
BaseScore = tuple[float, bool, float]
"""of an object's tokens: mean log-probability, whether each is the likeliest at its place, the share of those"""

RESTORE = "restore a copy of it, or choose another --home; `kbsync verify` lists all that is wrong"
_SHOWN = 5
"""of what SQLite finds wrong"""
_TABLES: dict[str, tuple[type[Any], tuple[str, ...]]] = {
    "pulls": (PullRow, ("started", "finished", "as_of")),
    "facts": (FactRow, ()),
    "fact_history": (HistoryRow, ()),
    "conflicts": (ConflictRow, ()),
    "skipped": (SkippedRow, ()),
    "models": (ModelRow, ("recorded", "used")),
    "targets": (TargetRow, ()),
    "batches": (BatchRow, ("started", "finished")),
    "edits": (EditRow, ()),
    "endings": (EndingRow, ()),
    "rollbacks": (RollbackRow, ("time",)),
    "vetoes": (VetoRow, ("since", "lifted")),
    "metrics": (MetricRow, ()),
}
"""the rows of each table, and which of their fields are times"""
INTERRUPTED = "interrupted"
_END = f"UPDATE batches SET state = 'failed', reason = '{INTERRUPTED}', finished = ? WHERE state = 'running'"
_UNFINISHED = "SELECT EXISTS (SELECT 1 FROM pages) AND NOT EXISTS (SELECT 1 FROM pulls)"


class Ledger:
    """A home's ledger. Open it with `Ledger.open`; as a context manager it closes itself.

    Every method raises LedgerError when the file cannot be read or written. A method that writes does it in one
    transaction; those that change a model's state do it inside a `writer` block.
    """

    def __init__(self, home: Path, db: Database) -> None:
        self.home, self.db, self.path = home, db, home / "ledger.db"
        self.tensors = home / "tensors"
        """the folder of the tensor files; it may not exist yet"""
        self._lock = WriterLock(home / "lock")

    @classmethod
    def open(cls, home: Path, create: bool = True, *, check: bool = True) -> Self:
        """Open the ledger in `home`, migrated to the present schema.

        Raises LedgerError if there is none (or only an unfinished first pull) and `create` is false, if `home` is no
        folder or cannot be written, and if its ledger.db is no database, another program's, or of a newer schema. So
        it does, unless `check` is false, where a row that decides what is served is not as it was written.
        """
        try:
            if home.exists() and not home.is_dir():
                raise LedgerError(f"{home} is a file, not a folder: choose another --home")
            if create:
                home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"cannot use {home} as a home: {error.strerror}; choose another --home") from error
        if create and not os.access(home, os.W_OK | os.X_OK):
            raise LedgerError(f"cannot write in {home}: choose another --home")
        path = home / "ledger.db"
        db = connect(path, len(STEPS), create=create)
        if db is None:
            raise LedgerError(f"no ledger in {home}: run `kbsync pull` first")
        try:
            with telling(path):
                migrate(db)
                if check and (broken := broken_seals(db)):
                    more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
                    raise LedgerError(f"the ledger {path} is damaged: {broken[0]}{more}; {RESTORE}")
                if not create and db.execute(_UNFINISHED).fetchone()[0]:
                    raise LedgerError(f"no pull has finished in {home}: run `kbsync pull` first; it goes on from there")
        except BaseException:
            db.close()
            raise
        return cls(home, db)

    def close(self) -> None:
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def writer(self, purpose: str) -> Iterator[None]:
        """Be the one that changes models' states (`purpose` is shown to others); inside another block, go on in it.

        Raises LedgerBusyError at once if another process is. Pulls and the like go on meanwhile (`writing`). What a
        dead writer left is put in order first: its running batch becomes failed ("interrupted"), its unfinished files
        go.
        """
        if self._lock.held:
            yield
            return
        with self._lock.hold(purpose):
            with self.writing() as db:
                db.execute(_END, [now()])  # their processes have died: this one has the lock
            sweep(self.tensors)
            yield

    @contextmanager
    def writing(self, patience: float | None = None) -> Iterator[Database]:
        """One transaction, or a part of the one that is open; it waits (`patience` s) while another process writes.

        All that is recorded inside is recorded together, or not at all.
        """
        with telling(self.path), immediate(self.db, seal, patience):
            yield self.db

    @contextmanager
    def changing(self) -> Iterator[Database]:
        """`writing`, for what changes a model's state: the lock says that the process of a running batch lives."""
        if not self._lock.held:
            raise RuntimeError("a batch outside Ledger.writer: the next writer would take it for dead")
        with self.writing(RESULT_PATIENCE_SECONDS) as db:
            yield db

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, as SQLite has them."""
        with telling(self.path):
            return self.db.execute(sql, values).fetchall()

    def select(self, row: type[Row], table: str, rest: str = "", *values: object) -> list[Row]:
        """Return the rows of `table` that `rest` leaves: for this package's own modules."""
        with telling(self.path):
            try:
                return select(self.db, row, table, rest, values)
            except ValueError as error:
                raise LedgerError(f"the ledger {self.path} is damaged: {error}; {RESTORE}") from error

    def wrong_values(self) -> list[str]:
        found = []
        for table, (row, times) in _TABLES.items():
            with telling(self.path):
                rows = raw(self.db, f"SELECT {columns(row)} FROM {table}")
                found += [f"{table}, {wrong}" for cells in rows if (wrong := wrong_value(row, cells, times))]
        return found

    # Facts

    def facts(self, relations: Collection[str] | None = None, withdrawn: bool | None = None) -> list[FactRow]:
        """The facts on record, oldest first: of `relations` (None: all), withdrawn or not (None: both)."""
        states = {None: "", True: "AND withdrawn IS NOT NULL", False: "AND withdrawn IS NULL"}
        which = "TRUE" if relations is None else "relation IN (SELECT value FROM json_each(?))"
        wanted = () if relations is None else (json.dumps(sorted(relations)),)
        return self.select(FactRow, "facts", f"WHERE {which} {states[withdrawn]} ORDER BY id", *wanted)

    def history(self, fact: int) -> list[HistoryRow]:
        """The objects that the fact of this id named earlier, oldest first."""
        return self.select(HistoryRow, "fact_history", "WHERE fact = ? ORDER BY id", fact)

    def pulls(self) -> list[PullRow]:
        return self.select(PullRow, "pulls", "ORDER BY id")

    def conflicts(self, pull: int | None = None, batch: int | None = None) -> list[ConflictRow]:
        """The conflicts that a pull saw, or that an apply met; all of them where neither is given."""
        which = "WHERE pull IS ifnull(?, pull) AND batch IS ifnull(?, batch) ORDER BY id"
        return self.select(ConflictRow, "conflicts", which, pull, batch)

    # Models, and what is known of them

    def record_model(
        self,
        *,
        key: str,
        name: str,
        revision: str | None,
        architecture: str,
        weights_sha256: str,
        settings: Mapping[str, Any],
        contexts: Sequence[str],
        layers: Sequence[int],
    ) -> ModelRow:
        """Record a base model, or that the one of this key is in use again; all but its hash then stays."""
        time = now()
        about = (key, name, revision, architecture, weights_sha256)
        made = (compact(settings), compact(list(contexts)), compact(list(layers)))
        with self.writing() as db:
            db.execute(
                f"""INSERT INTO models ({columns(ModelRow)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (key) DO UPDATE SET used = excluded.used, weights_sha256 = excluded.weights_sha256""",
                (*about, *made, time, time),
            )
            (row,) = self.select(ModelRow, "models", "WHERE key = ?", key)
        return row

    def find_model(self, key: str) -> ModelRow | None:
        return next(iter(self.select(ModelRow, "models", "WHERE key = ?", key)), None)

    def models(self) -> list[ModelRow]:
        """All models, the one used last first."""
        return self.select(ModelRow, "models", "ORDER BY used DESC, rowid DESC")

    def latest_model(self, name: str) -> ModelRow | None:
        return next((model for model in self.models() if model.name == name), None)

    def find_targets(self, keys: Collection[str]) -> dict[str, TargetRow]:
        """Those of the target vectors that are in the cache, by key."""
        which = "WHERE key IN (SELECT value FROM json_each(?))"
        return {row.key: row for row in self.select(TargetRow, "targets", which, json.dumps(list(keys)))}

    def targets(self) -> list[TargetRow]:
        return self.select(TargetRow, "targets", "ORDER BY key")

    def record_targets(self, model: str, file: str, targets: Sequence[tuple[str, int, int, float]]) -> None:
        """Record target vectors as (key, row in `file`, steps, loss); a key on record now names the new vector."""
        with self.writing() as db:
            db.conn.executemany(
                f"""INSERT INTO targets ({columns(TargetRow)}) VALUES (?, ?, ?, ?, ?, ?)
                ON CONFLICT (key) DO UPDATE SET model = excluded.model, file = excluded.file, row = excluded.row,
                steps = excluded.steps, loss = excluded.loss""",
                [(key, model, file, row, steps, loss) for key, row, steps, loss in targets],
            )

    def answers(self, model: str, prompts: Collection[str]) -> dict[str, str]:
        sql = "SELECT prompt, answer FROM answers WHERE model = ? AND prompt IN (SELECT value FROM json_each(?))"
        return dict(self.query(sql, model, json.dumps(list(prompts))))

    def prompts_answered(self, model: str) -> list[str]:
        return [prompt for (prompt,) in self.query("SELECT prompt FROM answers WHERE model = ?", model)]

    def record_answers(self, model: str, answers: Mapping[str, str]) -> None:
        with self.writing() as db:
            db.conn.executemany(
                "INSERT OR REPLACE INTO answers (model, prompt, answer) VALUES (?, ?, ?)",
                [(model, prompt, answer) for prompt, answer in answers.items()],
            )

    def base_scores(self, model: str, asked: Collection[tuple[str, str]]) -> dict[tuple[str, str], BaseScore]:
        """How the base model of this sha256 takes to those (prompt, object) that it was asked about."""
        sql = """SELECT prompt, object, log_prob, exact, accuracy FROM json_each(?) AS asked JOIN base_scores
            ON model = ? AND prompt = asked.value ->> 0 AND object = asked.value ->> 1"""
        rows = self.query(sql, json.dumps(list(asked)), model)
        return {(prompt, thing): (log_prob, bool(exact), accuracy) for prompt, thing, log_prob, exact, accuracy in rows}

    def record_base_scores(self, model: str, scores: Mapping[tuple[str, str], BaseScore]) -> None:
        """Record how the base model of this sha256 takes to (prompt, object)."""
        with self.writing() as db:
            db.conn.executemany(
                "INSERT OR REPLACE INTO base_scores VALUES (?, ?, ?, ?, ?, ?)",
                [(model, *asked, *score) for asked, score in scores.items()],
            )

    # Batches

    def active_edits(self, model: str) -> list[EditRow]:
        """The edits that make up the model's present state, oldest first, whichever batch wrote them."""
        return self.select(EditRow, "edits", "WHERE model = ? AND state = 'active' ORDER BY id", model)

    def edits(self, batch: int) -> list[EditRow]:
        return self.select(EditRow, "edits", "WHERE batch = ? ORDER BY id", batch)

    def current_batch(self, model: str) -> BatchRow | None:
        """The model's newest done batch: its files hold the present state."""
        newest = "WHERE model = ? AND state = 'done' ORDER BY id DESC LIMIT 1"
        return next(iter(self.select(BatchRow, "batches", newest, model)), None)

    def batches(self, model: str | None = None) -> list[BatchRow]:
        """All batches, of one model or of all, oldest first; one whose process has died counts as failed."""
        rows = self.select(BatchRow, "batches", "WHERE model = ifnull(?, model) ORDER BY id", model)
        if any(row.state == "running" for row in rows) and not self._lock.taken():
            ended = {"state": "failed", "reason": INTERRUPTED}
            rows = [replace(row, **ended) if row.state == "running" else row for row in rows]  # type: ignore[arg-type]
        return rows

    def metrics(self, batch: int) -> list[MetricRow]:
        """The figures of a batch, of the whole and of its edits, in the order given."""
        return self.select(MetricRow, "metrics", "WHERE batch = ? ORDER BY id", batch)


def database_faults(ledger: Ledger) -> list[str]:
    """Return what SQLite's own checks (integrity_check, foreign_key_check) find wrong, in words."""
    try:
        integrity = [row[0] for row in ledger.db.execute(f"PRAGMA integrity_check({_SHOWN})")]
        dangling = ledger.db.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.DatabaseError as error:
        return [f"{ledger.path} cannot be read to its end: {error}"]
    # Some of SQLite's messages have several lines.
    faults = [f"{ledger.path} is damaged: {' '.join(said.split())}" for said in integrity if said != "ok"]
    lost = Counter((table, parent) for table, _, parent, _ in dangling)
    return faults + [
        f"{count} rows of {table} name a row of {parent} that is not there" for (table, parent), count in lost.items()
    ]
