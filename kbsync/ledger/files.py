"""What is remembered of a file that was read, so that the next pull of it reads only what changed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kbsync.ledger.connection import telling
from kbsync.ledger.store import Ledger

__all__ = ["FileReading", "find_reading", "record_reading"]


@dataclass(frozen=True, slots=True)
class FileReading:
    """How a file stood when it was last read: its digest, by language and day, and the pulls that recorded it."""

    language: str
    day: str
    digest: bytes
    pulls: Mapping[str, int]
    """relation -> the pull that recorded it"""
    skipped: Mapping[str, Sequence[str]]
    """relation -> the notes on what was left out"""


def find_reading(ledger: Ledger, source: str) -> FileReading | None:
    """Return what is remembered of a file, of those relations alone that no other pull has recorded since."""
    with telling(ledger.path):
        sql = "SELECT language, day, digest, pulls, skipped FROM file_readings WHERE source = ?"
        found = ledger.db.execute(sql, [source]).fetchone()
        newest = "SELECT relation, max(id) FROM pulls WHERE source = ? GROUP BY relation"
        last = dict(ledger.db.execute(newest, [source]).fetchall())
    if found is None:
        return None
    language, day, digest, pulls, skipped = found
    standing = {relation: pull for relation, pull in json.loads(pulls).items() if last.get(relation) == pull}
    return FileReading(language, day, digest, standing, json.loads(skipped))


def record_reading(ledger: Ledger, source: str, reading: FileReading) -> None:
    """Remember how a file stands, in place of how it stood."""
    with ledger.writing() as db:
        values = (json.dumps(dict(reading.pulls)), json.dumps(dict(reading.skipped), ensure_ascii=False))
        db.execute(
            "INSERT OR REPLACE INTO file_readings (source, language, day, digest, pulls, skipped) VALUES (?,?,?,?,?,?)",
            (source, reading.language, reading.day, reading.digest, *values),
        )
