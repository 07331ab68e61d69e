"""Seals: a hash on each row that decides what is served, so that a changed byte is seen before it is believed.

A table's rows carry their own hash (`seal`), and the table `seals` holds one over all seals of a table, so that a row
that has gone is missed. A trigger clears the seal of a row that is updated, and the transaction seals what is unsealed
before it commits; what another program changes stays unsealed. The hash finds damage; it keeps no secret.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kbsync.ledger.decoding import raw

if TYPE_CHECKING:
    from sqlite_utils import Database

SEALED_SINCE = 9
"""the schema that brought the seals"""
SEALED = {
    "models": ("key",),
    "batches": ("id",),
    "edits": ("id",),
    "endings": ("batch", "edit"),
    "rollbacks": ("id",),
    "vetoes": ("id",),
}
"""the sealed tables, with their primary keys"""


def prepare(db: "Database") -> None:
    """Give the tables their seals: a column and a trigger each; the table of tables."""
    db.execute("CREATE TABLE seals (name TEXT PRIMARY KEY, rows INTEGER NOT NULL, seal TEXT NOT NULL) WITHOUT ROWID")
    for table, key in SEALED.items():
        same = " AND ".join(f"{column} = NEW.{column}" for column in key)
        db.execute(f"ALTER TABLE {table} ADD COLUMN seal TEXT")
        db.execute(f"CREATE INDEX {table}_unsealed ON {table}({key[0]}) WHERE seal IS NULL")
        db.execute(
            f"""CREATE TRIGGER {table}_unseal AFTER UPDATE ON {table}
            WHEN NEW.seal IS OLD.seal AND NEW.seal IS NOT NULL
            BEGIN UPDATE {table} SET seal = NULL WHERE {same}; END"""
        )
    renew(db)


def seal(db: "Database") -> None:
    """Seal the rows that have none, and the tables that they are in. The caller holds the transaction."""
    for table in SEALED:
        if db.execute(f"SELECT 1 FROM {table} WHERE seal IS NULL LIMIT 1").fetchone() is None:
            continue
        key = SEALED[table]
        found = [(made, *values) for values, _, made in _rows(db, table, "WHERE seal IS NULL")]
        same = " AND ".join(f"{column} = ?" for column in key)
        db.conn.executemany(f"UPDATE {table} SET seal = ? WHERE {same}", found)
        seals = [row[0] for row in db.execute(f"SELECT seal FROM {table}")]
        db.execute("INSERT OR REPLACE INTO seals (name, rows, seal) VALUES (?, ?, ?)", (table, len(seals), _all(seals)))


def renew(db: "Database") -> None:
    """Seal every row anew: the schema has changed, and with it what a row holds."""
    for table in SEALED:
        db.execute(f"UPDATE {table} SET seal = NULL")
        db.execute("INSERT OR REPLACE INTO seals (name, rows, seal) VALUES (?, 0, ?)", (table, _all([])))
    seal(db)


def broken_seals(db: "Database") -> list[str]:
    """Return what is wrong with the sealed rows, each named by its table and key; none where all is as written."""
    if db.conn.in_transaction:
        return [fault for table in SEALED for fault in _faults(db, table)]
    db.conn.execute("BEGIN")  # one view of all tables: another process may finish a batch meanwhile
    try:
        return [fault for table in SEALED for fault in _faults(db, table)]
    finally:
        db.conn.rollback()


def _faults(db: "Database", table: str) -> Iterator[str]:
    try:
        said = [str(row[0]) for row in db.execute(f"PRAGMA integrity_check({table})")]
        rows = list(_rows(db, table))
        total = db.execute("SELECT rows, seal FROM seals WHERE name = ?", [table]).fetchone()
    except (sqlite3.DatabaseError, ValueError) as error:
        yield f"the table {table} cannot be read ({error})"
        return
    yield from (f"the table {table} is damaged: {' '.join(text.split())}" for text in said if text != "ok")
    broken = [values for values, held, made in rows if held != made]
    yield from (f"row {' '.join(map(str, values))} of {table} is not what kbsync wrote" for values in broken)
    seals = [str(held) for _, held, _ in rows]
    if not broken and (total is None or tuple(total) != (len(seals), _all(seals))):
        counted = f"it has {len(seals)} rows, and {total[0]} were written" if total else "nothing says what it held"
        yield f"the table {table} is not what kbsync wrote: {counted}"


def _rows(db: "Database", table: str, where: str = "") -> Iterator[tuple[tuple[object, ...], object, str]]:
    """Yield the key of each row, the seal that it has, and the one that its values make."""
    rows = raw(db, f"SELECT * FROM {table} {where}")
    names = [column[0] for column in db.conn.execute(f"SELECT * FROM {table} LIMIT 0").description]
    place = names.index("seal")
    keys = [names.index(column) for column in SEALED[table]]
    del names[place]
    about = json.dumps([table, names])
    for row in rows:
        values = [*row[:place], *row[place + 1 :]]
        text = about + json.dumps(values, default=bytes.hex)
        yield tuple(row[key] for key in keys), row[place], hashlib.sha256(text.encode()).hexdigest()[:16]


def _all(seals: list[str]) -> str:
    """The seal of a table: of its rows' seals, in whatever order they come."""
    return hashlib.sha256(" ".join(sorted(seals)).encode()).hexdigest()
