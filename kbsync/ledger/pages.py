"""What helps the next pull: how a file stood when it was read, how far a stream was followed, and the answers of an
endpoint that was not done.
"""

import datetime
import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kbsync.errors import LedgerError
from kbsync.facts import content_id
from kbsync.ledger.db import iso, now
from kbsync.ledger.store import RESTORE, Ledger


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


def find_stream(ledger: Ledger, url: str) -> tuple[str | None, str | None]:
    """Return the last event of a stream that was synced, and when all was read last; None where there is none."""
    found = ledger.query("SELECT event, reconciled FROM streams WHERE url = ?", url)
    return (found[0][0], found[0][1]) if found else (None, None)


def record_stream(ledger: Ledger, url: str, event: str | None, reconciled: str) -> None:
    with ledger.writing() as db:
        sql = "INSERT OR REPLACE INTO streams (url, event, reconciled) VALUES (?, ?, ?)"
        db.execute(sql, [url, event, reconciled])


def find_reading(ledger: Ledger, source: str) -> FileReading | None:
    """Return what is remembered of a file, of those relations alone that no other pull has recorded since."""
    found = ledger.query("SELECT language, day, digest, pulls, skipped FROM file_readings WHERE source = ?", source)
    last = dict(ledger.query("SELECT relation, max(id) FROM pulls WHERE source = ? GROUP BY relation", source))
    if not found:
        return None
    try:
        language, day, digest = found[0][:3]
        pulls, skipped = map(json.loads, found[0][3:])
    except (ValueError, TypeError) as error:
        raise LedgerError(f"{ledger.path} is damaged: file_readings, row {source}: {error}; {RESTORE}") from error
    standing = {relation: pull for relation, pull in pulls.items() if last.get(relation) == pull}
    return FileReading(language, day, digest, standing, skipped)


def record_reading(ledger: Ledger, source: str, reading: FileReading) -> None:
    with ledger.writing() as db:
        values = (json.dumps(dict(reading.pulls)), json.dumps(dict(reading.skipped), ensure_ascii=False))
        db.execute(
            "INSERT OR REPLACE INTO file_readings (source, language, day, digest, pulls, skipped) VALUES (?,?,?,?,?,?)",
            (source, reading.language, reading.day, reading.digest, *values),
        )


KEPT = datetime.timedelta(days=1)
"""How long a page counts as what the endpoint would say."""


def page_key(source: str, query: str) -> str:
    return content_id("page1", [source, query])


def find_page(ledger: Ledger, key: str) -> bytes | None:
    found = ledger.query("SELECT body FROM pages WHERE key = ? AND time > ?", key, _oldest())
    return zlib.decompress(found[0][0]) if found else None


def keep_page(ledger: Ledger, key: str, body: bytes) -> None:
    with ledger.writing() as db:
        values = (key, now(), zlib.compress(body, 1))
        db.execute("INSERT OR REPLACE INTO pages (key, time, body) VALUES (?, ?, ?)", values)


def drop_expired(ledger: Ledger) -> None:
    """Drop the answers of which none can be found any more."""
    with ledger.writing() as db:
        db.execute("DELETE FROM pages WHERE time <= ?", [_oldest()])


def drop_pages(ledger: Ledger, keys: Collection[str]) -> None:
    with ledger.writing() as db:
        db.conn.executemany("DELETE FROM pages WHERE key = ?", [(key,) for key in keys])


def _oldest() -> str:
    return iso(datetime.datetime.now(datetime.UTC) - KEPT)
