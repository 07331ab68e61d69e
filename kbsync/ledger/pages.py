"""Finished answers of an endpoint, kept for a day at most, so that an interrupted pull goes on where it was."""

import datetime
import zlib
from collections.abc import Collection

from kbsync.facts import content_id
from kbsync.ledger.connection import iso, now, telling
from kbsync.ledger.store import Ledger

__all__ = ["KEPT", "drop_expired", "drop_pages", "find_page", "keep_page", "page_key"]

KEPT = datetime.timedelta(days=1)
"""How long a page counts as what the endpoint would say."""


def page_key(source: str, query: str) -> str:
    """Return the key of the answer of `source` to `query`."""
    return content_id("page1", [source, query])


def find_page(ledger: Ledger, key: str) -> bytes | None:
    """Return the answer that was kept under `key`; None where there is none, or it has expired."""
    with telling(ledger.path):
        found = ledger.db.execute("SELECT body FROM pages WHERE key = ? AND time > ?", [key, _oldest()]).fetchone()
    return None if found is None else zlib.decompress(found[0])


def keep_page(ledger: Ledger, key: str, body: bytes) -> None:
    """Keep an answer."""
    with ledger.writing() as db:
        values = (key, now(), zlib.compress(body, 1))
        db.execute("INSERT OR REPLACE INTO pages (key, time, body) VALUES (?, ?, ?)", values)


def drop_expired(ledger: Ledger) -> None:
    """Drop the answers of which none can be found any more."""
    with ledger.writing() as db:
        db.execute("DELETE FROM pages WHERE time <= ?", [_oldest()])


def drop_pages(ledger: Ledger, keys: Collection[str]) -> None:
    """Drop the answers kept under `keys`."""
    with ledger.writing() as db:
        db.conn.executemany("DELETE FROM pages WHERE key = ?", [(key,) for key in keys])


def _oldest() -> str:
    return iso(datetime.datetime.now(datetime.UTC) - KEPT)
