"""Rows that decide what is served carry a hash: no damage to the file makes a command serve something else."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kbsync.errors import LedgerError
from kbsync.ledger import Ledger
from kbsync.ledger.decoding import SEALED, broken_seals
from kbsync.ledger.edits import edits_of, endings, roll_back, rollbacks
from kbsync.ledger.facts import record_vetoes, vetoes
from kbsync.ledger.migrations import STEPS, migrate
from tests.ledger.helpers import apply, fact, model, new_edit, pull

STRIDE, STRIDE_OF_ROWS = 401, 7
"""every which byte is flipped, of the whole file and of rows under a seal; at so odd strides, each bit in turn"""


@pytest.fixture
def small(home: Path) -> Path:
    """Two batches of one model, one of another, an edit that ended, a rollback and a suppression; one file."""
    with Ledger.open(home) as ledger:
        one, other = model(ledger), model(ledger, "model:2", "gpt-j")
        pull(ledger, fact("A", "x"), fact("B", "x"), fact("C", "x"))
        rows = {row.subject_label: row for row in ledger.facts()}
        first = apply(ledger, one, added=[new_edit(rows["A"]), new_edit(rows["B"])], files={"d1": "aa"})
        apply(ledger, other, added=[new_edit(rows["C"])], files={"e1": "cc"})
        ended = [edit.id for edit in ledger.active_edits(one) if edit.subject == "A"]
        last = apply(ledger, one, added=[new_edit(rows["C"])], retracted=ended, files={"d2": "bb"})
        roll_back(ledger, one, first)
        roll_back(ledger, one, last)
        record_vetoes(ledger, [rows["A"]], any_object=True, reason="wrong")
    with closing(sqlite3.connect(home / "ledger.db")) as db:
        db.execute("VACUUM")  # so that a page holds nothing but its rows
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return home


def served(home: Path) -> object:
    """All that a command could serve of the home."""
    with Ledger.open(home, create=False) as ledger:
        models = ledger.models()
        return (
            models,
            [(ledger.batches(row.key), ledger.current_batch(row.key), ledger.active_edits(row.key)) for row in models],
            [edits_of(ledger, row.key) for row in models],
            (endings(ledger), rollbacks(ledger), vetoes(ledger)),
        )


def flips(content: bytes, places: range | list[int]) -> Iterator[tuple[int, bytes]]:
    for place in places:
        yield place, content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :]


def test_no_changed_byte_serves_another_state(small: Path) -> None:
    path = small / "ledger.db"
    whole, before = path.read_bytes(), served(small)
    refused: list[str] = []
    for place, damaged in flips(whole, range(0, len(whole), STRIDE)):
        path.write_bytes(damaged)
        try:
            now = served(small)
        except LedgerError as error:
            refused.append(str(error))
        else:
            assert now == before, place
    assert refused
    assert all(str(small) in said for said in refused)


def rows_in(path: Path, table: str) -> list[int]:
    """Where the file holds the rows of a table that fits a page: from its first row to the end of the page."""
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    page = path.read_bytes()[(root - 1) * size : root * size]
    assert page[0] in (10, 13)  # a leaf: all of the table is here
    count, first = int.from_bytes(page[3:5], "big"), int.from_bytes(page[5:7], "big")
    assert count
    return list(range((root - 1) * size + first, root * size))


@pytest.mark.parametrize("table", SEALED)
def test_a_changed_byte_of_a_sealed_row_is_named(table: str, small: Path) -> None:
    path = small / "ledger.db"
    whole = path.read_bytes()
    for place, damaged in flips(whole, rows_in(path, table)[::STRIDE_OF_ROWS]):
        path.write_bytes(damaged)
        with Ledger.open(small, create=False, check=False) as ledger:
            said = broken_seals(ledger.db)
        assert any(table in fault for fault in said), place
        with pytest.raises(LedgerError, match=table):
            Ledger.open(small, create=False)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("UPDATE batches SET state = 'failed' WHERE id = 3", "row 3 of batches"),
        ("UPDATE edits SET object = 'Lima' WHERE id = 2", "row 2 of edits"),
        ("UPDATE models SET used = '2000' WHERE key = 'model:1'", "row model:1 of models"),
        ("DELETE FROM vetoes", "the table vetoes is not what kbsync wrote: it has 0 rows, and 1 were written"),
        ("DELETE FROM seals", "nothing says what it held"),
        ("DROP TABLE rollbacks", "the table rollbacks cannot be read"),
    ],
)
def test_what_another_program_changes_is_named(change: str, named: str, small: Path) -> None:
    with closing(sqlite3.connect(small / "ledger.db")) as db, db:
        db.execute(change)
    with pytest.raises(LedgerError, match=rf"ledger\.db is damaged: .*{named}.*kbsync verify"):
        Ledger.open(small, create=False)


def test_a_later_step_seals_anew_what_was_whole(small: Path) -> None:
    def step(db: object) -> None:
        db.execute("ALTER TABLE edits ADD COLUMN later TEXT NOT NULL DEFAULT 'x'")  # type: ignore[attr-defined]

    with Ledger.open(small) as ledger:
        migrate(ledger.db, [*STEPS, step])
        assert broken_seals(ledger.db) == []
        ledger.db.conn.execute("UPDATE edits SET object = 'Lima' WHERE id = 2")
        ledger.db.conn.commit()
        with pytest.raises(LedgerError, match="row 2 of edits"):
            migrate(ledger.db, [*STEPS, step, step])
