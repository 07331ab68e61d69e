"""All rows of a question, in pages that neither miss nor repeat a row, whatever order a store has.

No page is counted from the first row (OFFSET), which would move when the store changes its order or its data:

- **Subjects** come by key: a page holds the subjects above the last IRI of the page before, in the order of their
  IRIs, which is checked here. The end is a page without rows, so an endpoint that gives fewer rows than it was asked
  for is asked for the rest.
- **What is said of them** is asked by name, some hundred subjects at a time (VALUES), so that all statements of a
  subject stand in one answer; the same answer counts its rows, so one that was cut or capped shows.

- **A whole relation of Wikidata** (`Ask.everything`) has more subjects than its service can sort: its statements come
  in the order that the store has them. Each page begins with the last row of the page before, so a store that moved in
  between shows, and in the end they are counted.

A page that took too long or was cut is asked for again in halves, five times at most.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import TypeVar

from kbsync.errors import SourceError
from kbsync.files import SUBJECTS, TEMPORARY, writing
from kbsync.sources import queries
from kbsync.sources.base import Ask
from kbsync.sources.results import Row, Term

PAGE = 50_000  # Subjects asked for at once
BATCH = 500  # Subjects, names or entities put into one query
MOVED = 0.001  # share of a relation's statements that may come or go while they are read
TRIES = 5  # How often in a row a request may fail


_Place = TypeVar("_Place")


class TooLongError(SourceError):
    """An answer took too long, or was cut: a smaller page may pass."""


class Whole:
    """The rows of a source whose answers are whole by nature, asked for as `Paged` is; `stream` holds none of them."""

    def __init__(self, stream: Callable[[str], Iterator[Row]]) -> None:
        self.stream = stream
        self.select: Callable[[str], list[Row]] = lambda text: list(stream(text))

    def subjects(self, ask: Ask) -> Iterator[Row]:
        # Told apart and sorted here: a store would hold all of them, and look both up for each comparison.
        text = queries.subjects_streamed(ask)
        with closing(sqlite3.connect("")) as base:
            base.execute("CREATE TABLE found (value, kind)")
            with writing(TEMPORARY, sqlite3.Error):
                terms = (row["subject"] for row in self.stream(text))
                base.executemany("INSERT INTO found VALUES (?, ?)", ((term.value, term.kind) for term in terms))
                for value, kind in base.execute("SELECT value, kind FROM found GROUP BY value, kind ORDER BY 1, 2"):
                    yield {"subject": Term(value, kind)}

    def about(self, names: Sequence[str], query: Callable[[Sequence[str]], queries.Query]) -> list[Row]:
        batches = (names[start : start + BATCH] for start in range(0, len(names), BATCH))
        return [row for batch in batches for row in self.stream(query(batch).text())]

    def own(self, text: str, page: int | None) -> Iterator[Row]:
        return self.stream(text)


class Paged:
    """The rows of an endpoint. Raises SourceError if they are not the number that it counts, or in no order."""

    def __init__(self, select: Callable[[str], list[Row]]) -> None:
        """`select` asks one SPARQL text; it raises SourceError if its answer is not whole."""
        self.select = select
        self._page, self._batch = PAGE, BATCH

    def subjects(self, ask: Ask) -> Iterator[Row]:
        """Give the subjects in the order of their IRIs, page by page; blank nodes, if any, first."""
        if ask.everything:
            yield from self._subjects_unsorted(ask)
            return
        after: str | None = None
        number = 0
        while page := self._page_of(lambda above, size: queries.subjects_page(ask, size, above), after):
            text = queries.subjects_page(ask, self._page, after)
            _check_order(page, after, text)
            number += len(page)
            if number > SUBJECTS.value:
                raise SourceError(f"gives an endless number of pages of subjects ({SUBJECTS.told})", query=text)
            yield from page
            # Blank nodes have no place in the order: a page of them alone leads to the first IRI.
            after = max((row["subject"].value for row in page if row["subject"].kind == "iri"), default="")

    def _subjects_unsorted(self, ask: Ask) -> Iterator[Row]:
        seen: set[Term] = set()
        number = 0
        for row in self._overlapping(lambda start, size: queries.nodes_page(ask, start, size)):
            number += 1
            if row["subject"] not in seen:
                seen.add(row["subject"])
                yield {"subject": row["subject"]}
        text = queries.nodes_counted(ask)
        total = self.select(text)[0]["total"].value
        if number < int(total) * (1 - MOVED):
            raise SourceError(f"gave {number} statements where it counts {total}; pull again", query=text)

    def own(self, text: str, page: int | None) -> Iterator[Row]:
        """Give the rows of a query of the user's own, in pages of so many where it says how large these are."""
        if page is None:
            yield from self.select(text)
            return
        self._page = page
        yield from self._overlapping(lambda start, size: f"{text}\nLIMIT {max(size, 2)}\nOFFSET {start}")

    def _overlapping(self, text_of: Callable[[int, int], str]) -> Iterator[Row]:
        """Give all rows, in pages that each begin with the last row of the one before; `text_of` (start, size)."""
        last: Row | None = None
        start = 0
        while True:
            page = self._page_of(text_of, start)
            if last is not None and page[:1] != [last]:
                raise SourceError("changed while it was read; run the pull again")
            found = page if last is None else page[1:]
            if not found:
                return
            yield from found
            start, last = start + len(page) - 1, page[-1]

    def _page_of(self, text_of: Callable[[_Place, int], str], place: _Place) -> list[Row]:
        page, self._page = _halved(self._page, lambda size: self.select(text_of(place, size)))
        return page

    def about(self, names: Sequence[str], query: Callable[[Sequence[str]], queries.Query]) -> list[Row]:
        """Return all rows of `query` over `names`, in their order as far as the batches go."""
        rows, start = list[Row](), 0
        while start < len(names):
            most = min(self._batch, len(names) - start)
            found, size = _halved(most, partial(self._counted, query, names[start:]))
            if size < most:
                self._batch = size
            rows += found
            start += size
        return rows

    def _counted(self, query: Callable[[Sequence[str]], queries.Query], names: Sequence[str], size: int) -> list[Row]:
        text = query(names[:size]).counted()
        page = self.select(text)
        totals = [row.pop("total").value for row in page if "total" in row]
        rows = [row for row in page if row]
        if len(totals) == 1 and len({frozenset(row.items()) for row in rows}) == len(rows) == int(totals[0]):
            return rows
        counted = totals[0] if totals else "more"
        raise TooLongError(
            f"gave {len(rows)} rows where it counts {counted}: it cut its answer; run the pull again, or ask for less "
            "(--class, --subjects, --min-sitelinks)",
            query=text,
        )


Rows = Paged | Whole
"""how all rows of a question are had"""


def _halved(size: int, rows_of: Callable[[int], list[Row]]) -> tuple[list[Row], int]:
    """Return what a size gives, halved where that took too long, and the size that passed."""
    for attempt in range(1, TRIES + 1):
        try:
            return rows_of(size), size
        except TooLongError as fault:
            if size == 1 or attempt == TRIES:
                tried = f" (tried {attempt} times, each with half as much)" if attempt > 1 else ""
                raise SourceError(f"{fault}{tried}", query=fault.query) from fault
            size //= 2
    raise AssertionError("the last try returns or raises")


def _check_order(page: list[Row], after: str | None, text: str) -> None:
    last = after
    for row in page:
        if row["subject"].kind != "iri" and after is not None:
            raise SourceError("gives the same page of subjects again; check the endpoint", query=text)
        if row["subject"].kind == "iri":
            if last is not None and row["subject"].value <= last:
                raise SourceError(
                    "does not sort IRIs by their characters, so pages could miss some; "
                    "name the subjects with --subjects",
                    query=text,
                )
            last = row["subject"].value
