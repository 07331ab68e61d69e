"""The answers of an endpoint, kept in the home while a pull reads, and dropped when it is recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kbsync.ledger import Ledger
from kbsync.ledger.pages import drop_expired, drop_pages, find_page, keep_page, page_key

__all__ = ["KeptPages", "kept_pages"]


class KeptPages:
    """Pages of one source in a home's ledger, which is made when the first one is kept."""

    def __init__(self, home: Path, source: str) -> None:
        self._home, self._source = home, source
        self._ledger: Ledger | None = None
        self._used: set[str] = set()

    def find(self, query: str) -> bytes | None:
        """Return the answer to `query` that an interrupted pull left."""
        ledger = self._open(create=False)
        key = page_key(self._source, query)
        found = None if ledger is None else find_page(ledger, key)
        if found is not None:
            self._used.add(key)
        return found

    def keep(self, query: str, body: bytes) -> None:
        """Keep an answer."""
        ledger = self._open(create=True)
        assert ledger is not None
        key = page_key(self._source, query)
        self._used.add(key)
        keep_page(ledger, key, body)

    @property
    def used(self) -> frozenset[str]:
        """The keys of all that this pull found or kept."""
        return frozenset(self._used)

    def drop(self) -> None:
        """Drop all that this pull found or kept, as it was of no use."""
        ledger = self._open(create=False)
        if ledger is not None:
            drop_pages(ledger, self._used)

    def close(self) -> None:
        """Close the ledger."""
        if self._ledger is not None:
            self._ledger.close()

    def _open(self, *, create: bool) -> Ledger | None:
        if self._ledger is None and (create or (self._home / "ledger.db").exists()):
            self._ledger = Ledger.open(self._home)
            # A page lost to a power cut is only asked for again, so no page waits for the disk (WAL stays whole).
            self._ledger.db.execute("PRAGMA synchronous = NORMAL")
            drop_expired(self._ledger)
        return self._ledger


@contextmanager
def kept_pages(home: Path, source: str) -> Iterator[KeptPages]:
    """Give the pages of `source`; what an error or Ctrl-C leaves is there for the next pull."""
    pages = KeptPages(home, source)
    try:
        yield pages
    finally:
        pages.close()
