"""A user's own facts from a table: CSV, or TSV, with a header.

The columns are ``subject``, ``relation`` and ``object``; ``subject_id``, ``object_id`` and ``since`` (YYYY-MM-DD) may
be left out, as a column or in a row. Fields are quoted as usual: ``"Paris, Texas"``, ``"the ""big"" one"``. Rows are
read one by one; all that is wrong with a file comes in one error. A TSV file whose header has ``node1``, ``label`` and
``node2`` is a KGTK edge file (`kbsync.sources.kgtk_file`).
"""

import csv
import datetime
import re
from collections.abc import Iterator
from pathlib import Path

from kbsync.errors import SettingsError, SourceError
from kbsync.facts import Fact, check_relation
from kbsync.sources.base import Ask, Reading, Source, clean
from kbsync.sources.own_facts import check_ask, chosen, fact_of
from kbsync.sources.problems import Problems
from kbsync.sources.streams import kind_of, open_stream, telling

__all__ = ["TableFile", "is_kgtk", "open_table", "text_lines"]

_REQUIRED = ("subject", "relation", "object")
_OPTIONAL = ("subject_id", "object_id", "since")
_KGTK = frozenset(("node1", "label", "node2"))


def open_table(path: Path, asks: tuple[Ask, ...] = ()) -> Source:
    """Return the source that a table is, by its header; raises SourceError where that cannot be read."""
    if is_kgtk(path):
        from kbsync.sources.kgtk_file import KgtkFile

        return KgtkFile(path, asks)
    return TableFile(path)


def is_kgtk(path: Path) -> bool:
    """Whether a file has the header of KGTK edges; raises SourceError where it cannot be read."""
    with telling(path):
        header = next(text_lines(path), "")
    return kind_of(path) == ".tsv" and set(header.rstrip("\r\n").split("\t")) >= _KGTK


def text_lines(path: Path) -> Iterator[str]:
    """Yield a file's lines as text with their ends; raises SourceError, with the line, where the bytes are no UTF-8."""
    with open_stream(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise SourceError(f"{path}:{number}: not UTF-8 text; save the file as UTF-8") from error


class TableFile:
    """A CSV or TSV file of facts, read and checked whole at each reading, whatever relation is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path.resolve())

    def read(self, ask: Ask) -> Reading:
        """Read `ask`'s facts; raises SourceError with all problems of the file, and SettingsError for --class."""
        check_ask(ask, self._path, "a table")
        with telling(self._path):
            facts, skipped = chosen(_Rows(self._path).facts(), ask)
        return Reading(self.name, None, facts, skipped)


class _Rows:
    """The rows of a table as facts; problems are gathered with their lines."""

    def __init__(self, path: Path) -> None:
        self._problems = Problems(path)
        self._delimiter = "\t" if kind_of(path) == ".tsv" else ","
        self._path = path

    def facts(self) -> Iterator[Fact]:
        """Yield the facts; raise SourceError after the last row if any row was bad."""
        rows = self._rows()
        header = [name.strip().lower() for _, row in [next(rows, (1, []))] for name in row]
        self._check_header(header)
        for line, row in rows:
            values = self._values(line, header, row)
            if values is not None:
                yield fact_of(values)
        self._problems.raise_any()

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row that is not empty with its first line's number, up to the first that is not CSV."""
        reader = csv.reader(text_lines(self._path), delimiter=self._delimiter, strict=True)
        line = 1
        try:
            for row in reader:
                if row:
                    yield line, row
                line = reader.line_num + 1
        except csv.Error as error:
            self._problems.add(line, f"not a table's row ({error}); mend the quotes. What follows was not read")

    def _check_header(self, header: list[str]) -> None:
        """Raise SourceError with all that is wrong with the header."""
        known = (*_REQUIRED, *_OPTIONAL)
        if len(header) == 1 and ";" in header[0]:
            self._problems.add(1, "the columns are set apart by semicolons; save the table with commas, or as .tsv")
            self._problems.raise_any()
        named = f"columns are {', '.join(_REQUIRED)} and, if you like, {', '.join(_OPTIONAL)}"
        for name in dict.fromkeys(name for name in header if name not in known):
            self._problems.add(1, f"unknown column {name!r}; {named}")
        for name in dict.fromkeys(name for name in header if header.count(name) > 1 and name in known):
            self._problems.add(1, f"column {name!r} stands here twice; keep one")
        for name in (name for name in _REQUIRED if name not in header):
            self._problems.add(1, f"no column {name!r}; {named}")
        self._problems.raise_any()

    def _values(self, line: int, header: list[str], row: list[str]) -> dict[str, str] | None:
        """Return a row's fields that are not empty; None, and its problems noted, for a bad row."""
        if len(row) != len(header):
            self._problems.add(line, f"{len(row)} fields where the header has {len(header)} columns; mend the row")
            return None
        values = {name: text for name, field in zip(header, row, strict=True) if (text := clean(field))}
        wrong = [f"the {name} is empty; write text" for name in _REQUIRED if name not in values]
        wrong += filter(None, (_wrong_relation(values.get("relation")), _wrong_day(values.get("since"))))
        for message in wrong:
            self._problems.add(line, message)
        return None if wrong else values


def _wrong_relation(relation: str | None) -> str | None:
    try:
        check_relation(relation or "none")
    except SettingsError as error:
        return str(error)
    return None


def _wrong_day(day: str | None) -> str | None:
    try:
        if day is None or (re.fullmatch(r"\d{4}-\d\d-\d\d", day, re.ASCII) and datetime.date.fromisoformat(day)):
            return None
    except ValueError:
        pass
    return f"since is not a day ({day}): write YYYY-MM-DD"
