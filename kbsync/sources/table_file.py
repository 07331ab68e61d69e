"""A user's own facts from a table: CSV, or TSV, with a header.

The columns are ``subject``, ``relation`` and ``object``; ``subject_id``, ``object_id`` and ``since`` (YYYY-MM-DD) may
be left out, as a column or in a row; other columns are not used. Columns are set apart by commas (by semicolons where
the header has these and no comma), in TSV by tabs. Fields are quoted as usual: ``"Paris, Texas"``,
``"the ""big"" one"``. Rows are read one by one; all that is wrong with a file comes in one error. A TSV file whose
header has ``node1``, ``label`` and ``node2`` is a KGTK edge file (`kbsync.sources.kgtk_file`).
"""

import csv
import datetime
import re
from collections.abc import Iterator
from pathlib import Path

from kbsync.errors import SettingsError
from kbsync.facts import Fact, check_relation
from kbsync.files import Unchanged, kind_of, reading, text_lines
from kbsync.limits import ROW
from kbsync.sources.base import Ask, Notes, Reading, clean
from kbsync.sources.file_facts import NO_LINE_END, Problems, check_ask, chosen, fact_of

__all__ = ["TableFile", "is_kgtk"]

_REQUIRED = ("subject", "relation", "object")
_OPTIONAL = ("subject_id", "object_id", "since")
_KGTK = frozenset(("node1", "label", "node2"))


def is_kgtk(path: Path) -> bool:
    """Whether a file has the header of KGTK edges; raises SourceError where it cannot be read."""
    with reading(path):
        header = next(text_lines(path, ROW), "")
    return kind_of(path) == ".tsv" and set(header.rstrip("\r\n").split("\t")) >= _KGTK


class TableFile:
    """A CSV or TSV file of facts, read and checked whole at each reading, whatever relation is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = Unchanged(path)
        self.name = str(path.resolve())

    def read(self, ask: Ask) -> Reading:
        """Read `ask`'s facts; raises SourceError with all problems of the file, and SettingsError for --class."""
        check_ask(ask, self._path, "a table")
        notes = Notes()
        with self._state.reading():
            facts = chosen(_Rows(self._path, notes).facts(), ask, notes)
        return notes.reading(self.name, None, facts)


class _Rows:
    """The rows of a table as facts; problems are gathered with their lines."""

    def __init__(self, path: Path, notes: Notes) -> None:
        self._problems = Problems(path)
        self._notes = notes
        self._path = path
        self._delimiter = "\t" if kind_of(path) == ".tsv" else self._comma()

    def _comma(self) -> str:
        """What sets the columns of a CSV file apart: a semicolon where the header has these and no comma."""
        header = next(text_lines(self._path, ROW), "")
        names = {name.strip().strip('"').lower() for name in header.split(";")}
        return ";" if "," not in header and names >= set(_REQUIRED) else ","

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
        reader = csv.reader(self._lines(), delimiter=self._delimiter, strict=True)
        line = 1
        try:
            for row in reader:
                if row:
                    yield line, row
                line = reader.line_num + 1
        except csv.Error as error:
            self._problems.add(line, f"not a table's row ({error}); correct the quotes. The rest was not read")

    def _lines(self) -> Iterator[str]:
        """Yield the lines; note a last one that has no end."""
        number, line = 0, "\n"
        for line in text_lines(self._path, ROW):
            number += 1
            yield line
        if number > 1 and not line.endswith("\n"):
            self._notes.add(NO_LINE_END, f"line {number}")

    def _check_header(self, header: list[str]) -> None:
        """Raise SourceError with all that is wrong with the header."""
        known = (*_REQUIRED, *_OPTIONAL)
        named = f"columns are {', '.join(_REQUIRED)} and, if you like, {', '.join(_OPTIONAL)}"
        for name in header:
            if name not in known:
                self._notes.add("column that is not used", repr(name))
        for name in dict.fromkeys(name for name in header if header.count(name) > 1 and name in known):
            self._problems.add(1, f"column {name!r} appears twice; keep one")
        for name in (name for name in _REQUIRED if name not in header):
            self._problems.add(1, f"no column {name!r}; {named}")
        self._problems.raise_any()

    def _values(self, line: int, header: list[str], row: list[str]) -> dict[str, str] | None:
        """Return a row's fields that are not empty; None, and its problems noted, for a bad row."""
        if len(row) != len(header):
            self._problems.add(line, f"{len(row)} fields where the header has {len(header)} columns; correct the row")
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
