"""A ledger of each older schema is brought up to date with all that it holds."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from kbsync.ledger import Ledger
from kbsync.ledger.db import connect
from kbsync.ledger.edits import endings, roll_back
from kbsync.ledger.migrations import STEPS, migrate
from kbsync.ledger.store import database_faults
from tests.ledger.helpers import fact, pull

# Three batches of one model (the second failed), one of another; A changed, B taken out, C kept.
SCHEMA_1 = """
INSERT INTO pulls VALUES (1, 's', 'P36', NULL, '2025-06-01', '2025-06-01', 3, 0, 0, 0, 0);
INSERT INTO facts VALUES (1, 's', 'P36', 'a', 'A', NULL, 'y', 'y', NULL, 'normal', NULL, 1, 1, NULL);
INSERT INTO facts VALUES (2, 's', 'P36', 'b', 'B', NULL, 'x', 'x', NULL, 'normal', NULL, 1, 1, 1);
INSERT INTO facts VALUES (3, 's', 'P36', 'c', 'C', NULL, 'x', 'x', NULL, 'normal', NULL, 1, 1, NULL);
INSERT INTO fact_history VALUES (1, 1, 'x', 'x', NULL, 'normal', NULL, 'changed', 1);
INSERT INTO models VALUES ('m1', 'practice', NULL, 'gptj', 'ab', '{}', '[""]', '[1]', '2025-06-01', '2025-06-01');
INSERT INTO models VALUES ('m2', 'gpt-j', NULL, 'gptj', 'cd', '{}', '[""]', '[1]', '2025-06-01', '2025-06-01');
INSERT INTO batches (id, model, algorithm, settings, started, state, device, files) VALUES
    (1, 'm1', 'memit', '{}', '2025-06-01', 'done', 'cpu', '{"d1": "aa"}'),
    (2, 'm1', 'memit', '{}', '2025-06-02', 'failed', 'cpu', '{}'),
    (3, 'm2', 'memit', '{}', '2025-06-03', 'done', 'cpu', '{}'),
    (4, 'm1', 'memit', '{}', '2025-06-04', 'done', 'cpu', '{"d4": "bb"}');
INSERT INTO edits VALUES (1, 1, 'm1', 1, 'P36', 'a', 'A', 'x', 'x', 'p', 'r1', NULL, 'superseded', 4);
INSERT INTO edits VALUES (2, 1, 'm1', 2, 'P36', 'b', 'B', 'x', 'x', 'p', 'r2', NULL, 'retracted', 4);
INSERT INTO edits VALUES (3, 1, 'm1', 3, 'P36', 'c', 'C', 'x', 'x', 'p', 'r3', NULL, 'active', NULL);
INSERT INTO edits VALUES (4, 4, 'm1', 1, 'P36', 'a', 'A', 'y', 'y', 'p', 'r4', NULL, 'active', NULL);
INSERT INTO metrics VALUES (1, 1, 1, 'ES', 0, 100), (2, 4, 4, 'ES', 0, 100), (3, 4, NULL, 'ES', 0, 100);
"""


@pytest.fixture
def old(home: Path) -> Iterator[Database]:
    """A home whose ledger has schema 1, with facts, batches and edits."""
    home.mkdir()
    db = connect(home / "ledger.db", 1, create=True)
    assert db is not None
    migrate(db, STEPS[:1])
    db.conn.executescript(SCHEMA_1)
    with closing(db):
        yield db


def rows(db: Database, table: str) -> list[dict[str, object]]:
    return list(db.query(f"SELECT * FROM {table} ORDER BY id"))


def test_schema_1(home: Path, old: Database) -> None:
    tables = ("pulls", "facts", "fact_history", "batches", "edits", "metrics")
    before = {table: rows(old, table) for table in tables}
    with Ledger.open(home, create=False) as ledger:
        assert ledger.db.execute("PRAGMA user_version").fetchone() == (len(STEPS),)
        assert database_faults(ledger) == []
        for table, held in before.items():
            assert [
                {name: row[name] for name in was} for row, was in zip(rows(ledger.db, table), held, strict=True)
            ] == held
        assert [(row.id, row.parent) for row in ledger.batches()] == [(1, None), (2, None), (3, None), (4, 1)]
        assert [row["subject_name"] for row in rows(ledger.db, "facts")] == ["a", "b", "c"]
        assert [(one.batch, one.edit, one.state) for one in endings(ledger)] == [
            (4, 1, "superseded"),
            (4, 2, "retracted"),
        ]
        roll_back(ledger, "m1", 1)
        assert [edit.id for edit in ledger.active_edits("m1")] == [1, 2, 3]
        roll_back(ledger, "m1", 4)
        assert [{**row, "retries": 0} for row in before["edits"]] == [
            {name: value for name, value in row.items() if name != "seal"} for row in rows(ledger.db, "edits")
        ]
        assert [batch.work for batch in ledger.batches()] == [{}] * 4
        pull(ledger, fact("A", "y"))


@pytest.mark.usefixtures("old")
def test_schema_1_keeps_its_rules(home: Path) -> None:
    with Ledger.open(home, create=False) as ledger:
        made = dict(ledger.db.execute("SELECT name, sql FROM sqlite_master WHERE tbl_name = 'edits'"))
        assert {"edits", "edits_active", "edits_subject", "edits_batch"} <= made.keys()
        for wrong in (
            "UPDATE edits SET state = 'gone' WHERE id = 1",
            "UPDATE edits SET state = 'active' WHERE id = 1",
            "UPDATE edits SET state = 'rolled back' WHERE id = 1",
            "UPDATE edits SET state = 'active', ended_by = NULL WHERE id = 1",
            "DELETE FROM edits WHERE id = 1",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                ledger.db.execute(wrong)
            ledger.db.rollback()
