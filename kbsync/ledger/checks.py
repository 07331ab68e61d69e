"""What the database says of itself: is the file whole, and does every reference lead somewhere."""

import sqlite3

from kbsync.ledger.store import Ledger

__all__ = ["database_faults"]

_SHOWN = 5


def database_faults(ledger: Ledger) -> list[str]:
    """Return what SQLite's own checks (integrity_check, foreign_key_check) find wrong, in words."""
    try:
        integrity = [row[0] for row in ledger.db.execute(f"PRAGMA integrity_check({_SHOWN})")]
        dangling = ledger.db.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.DatabaseError as error:
        return [f"{ledger.path} cannot be read to its end: {error}"]
    # Some of SQLite's messages have several lines.
    faults = [f"{ledger.path} is damaged: {' '.join(said.split())}" for said in integrity if said != "ok"]
    lost: dict[tuple[str, str], int] = {}
    for table, _, parent, _ in dangling:
        lost[table, parent] = lost.get((table, parent), 0) + 1
    return faults + [
        f"{count} rows of {table} name a row of {parent} that is not there" for (table, parent), count in lost.items()
    ]
