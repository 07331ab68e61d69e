"""A user's own facts from a table (CSV, or TSV, with a header), and the rows of any table as facts.

The columns are ``subject``, ``relation`` and ``object``; ``subject_id``, ``object_id`` and ``since`` (YYYY-MM-DD) may
be left out, as a column or in a row; other columns are not used. A relation whose template has ``columns`` names its
own (`kbsync.shapes`): all rows are facts of it, unless there is a ``relation``. Columns are set apart by commas (by
semicolons where the header has these and no comma), in TSV by tabs. Fields are quoted as usual: ``"Paris, Texas"``,
``"the ""big"" one"``. Rows are read one by one; all that is wrong with a file comes in one error. A TSV file whose
header has ``node1``, ``label`` and ``node2`` is a KGTK edge file (`kbsync.sources.kgtk_file`).

Facts from a database, by a SELECT of the user's own: SQLite, and PostgreSQL through SQLAlchemy (kbsync[postgres]).

The columns are those of a table file, as the query names them (``SELECT land AS subject, ...``); the relation is the
one that is asked for, where no column says it. ``:relation``, ``:language`` and ``:day`` in the query are bound. A
database is opened for reading alone, and its rows are read one by one.
"""

import csv
import datetime
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from kbsync.errors import SettingsError, SourceError
from kbsync.facts import Fact, check_relation
from kbsync.files import ROW, Unchanged, kind_of, reading, text_lines
from kbsync.shapes import COLUMNS
from kbsync.sources.base import SECRET, Ask, Counted, Notes, Reading, clean, shown
from kbsync.sources.file_facts import NO_LINE_END, Problems, check_ask, chosen, counted, fact_of, is_day
from kbsync.sources.own_query import OwnQuery

_REQUIRED, _OPTIONAL = COLUMNS[:3], COLUMNS[3:]
_KGTK = ("node1", "label", "node2")


def is_kgtk(path: Path) -> bool:
    """Whether a file has the header of KGTK edges; raises SourceError where it cannot be read."""
    with reading(path):
        header = next(text_lines(path, ROW), "")
    return kind_of(path) == ".tsv" and set(header.rstrip("\r\n").split("\t")) >= set(_KGTK)


class TableFile:
    """A CSV or TSV file of facts, read and checked whole at each reading, whatever relation is asked for."""

    def __init__(self, path: Path) -> None:
        self._path, self._state, self.name = path, Unchanged(path), str(path.resolve())

    def read(self, ask: Ask) -> Reading:
        """Read `ask`'s facts; raises SourceError with all problems of the file, and SettingsError for --class."""
        check_ask(ask, self._path, "a table")
        notes = Notes()
        with self._state.reading():
            columns = Columns(self._path, ask, notes)
            rows = _rows(self._path, columns, notes)
            facts = chosen(columns.facts(next(rows, (1, []))[1], rows), ask, notes)
        return notes.reading(self.name, None, facts)

    def predicates(self) -> Counted:
        """Return what `counted` gives of the rows: by their relation, or by column."""
        with self._state.reading():
            header = next(text_lines(self._path, ROW), "")
            delimiter = _delimiter(self._path, header, ";" in header)
            rows = csv.reader(text_lines(self._path, ROW), delimiter=delimiter)
            return counted(stated(next(rows, []), rows))


def stated(header: Sequence[str], rows: Iterable[Sequence[str]], table: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield what the rows of any table state: relation, subject and object.

    Where no column names the relation, each column is one (with `table` before its name), of what stands in the first
    column or in ``subject``.
    """
    names = [name.strip().lower() for name in header]
    told = next((each for each in (_REQUIRED, _KGTK) if set(names) >= set(each)), None)
    if told is not None:
        subject, relation, thing = map(names.index, told)
        yield from ((row[relation], row[subject], row[thing]) for row in rows if len(row) == len(header))
        return
    subject = names.index("subject") if "subject" in names else 0
    for row in rows:
        yield from ((table + name, row[subject], value) for name, value in zip(header, row, strict=False) if value)


def _delimiter(path: Path, header: str, semicolons: bool) -> str:
    """Return what sets columns apart; `semicolons`: whether a header without a comma has its columns so."""
    if kind_of(path) == ".tsv":
        return "\t"
    return ";" if semicolons and "," not in header else ","


class Columns:
    """Which columns of a table hold what, and its rows as facts; problems are gathered with their lines at `place`."""

    def __init__(self, place: Path | str, ask: Ask, notes: Notes, *, of_query: bool = False) -> None:
        """The rows `of_query` need not name their relation: they are of the one that is asked for."""
        self.problems = Problems(place)
        self._ask, self._notes = ask, notes
        told = dict(ask.shape.columns) if ask.shape else {}
        self._names = {field: told.get(field, field).strip().lower() for field in COLUMNS}
        self._needed = [field for field in _REQUIRED if field != "relation" or not (told or of_query)]
        self._places: dict[str, int] = {}

    def are_in(self, header: Collection[str]) -> bool:
        return {self._names[field] for field in self._needed} <= set(header)

    def facts(self, header: Sequence[str], rows: Iterable[tuple[int, Sequence[str]]]) -> Iterator[Fact]:
        """Yield the facts of the numbered `rows`; raise SourceError after the last row if any row was bad."""
        self._read_header([name.strip().lower() for name in header])
        for line, row in rows:
            values = self._values(line, len(header), row)
            if values is not None:
                yield fact_of(values)
        self.problems.raise_any()

    def _read_header(self, header: Sequence[str]) -> None:
        """Find the columns; raise SourceError with all that is wrong with the header."""
        wanted = ", ".join(self._names[field] for field in self._needed)
        others = ", ".join(self._names[field] for field in COLUMNS if field not in self._needed)
        used = set(self._names.values())
        for name in header:
            if name not in used:
                self._notes.add("column that is not used", repr(name))
        for name in dict.fromkeys(name for name in header if header.count(name) > 1 and name in used):
            self.problems.add(1, f"column {name!r} appears twice; keep one")
        for name in (self._names[field] for field in self._needed):
            if name not in header:
                self.problems.add(1, f"no column {name!r}; columns are {wanted} and, if you like, {others}")
        self.problems.raise_any()
        self._places = {field: header.index(name) for field, name in self._names.items() if name in header}

    def _values(self, line: int, width: int, row: Sequence[str]) -> dict[str, str] | None:
        """Return a row's fields that are not empty; None, and its problems noted, for a bad row."""
        if len(row) != width:
            self.problems.add(line, f"{len(row)} fields where the header has {width} columns; correct the row")
            return None
        values = {field: text for field, place in self._places.items() if (text := clean(row[place]))}
        if "relation" not in self._places:
            values["relation"] = self._ask.relation
        wrong = [f"the {self._names[field]} is empty; write text" for field in _REQUIRED if field not in values]
        try:
            check_relation(values.get("relation", "none"))
        except SettingsError as error:
            wrong.append(str(error))
        if (day := values.get("since")) is not None and not is_day(day):
            wrong.append(f"since is not a day ({day}): write YYYY-MM-DD")
        for message in wrong:
            self.problems.add(line, message)
        return None if wrong else values


def _rows(path: Path, columns: Columns, notes: Notes) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not empty with its first line's number, up to the first that is not CSV."""
    header = next(text_lines(path, ROW), "")
    names = [name.strip().strip('"').lower() for name in header.split(";")]
    reader = csv.reader(_lines(path, notes), delimiter=_delimiter(path, header, columns.are_in(names)), strict=True)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        columns.problems.add(line, f"not a table's row ({error}); correct the quotes. The rest was not read")


def _lines(path: Path, notes: Notes) -> Iterator[str]:
    """Yield the lines; note a last one that has no end."""
    number, line = 0, "\n"
    for line in text_lines(path, ROW):
        number += 1
        yield line
    if number > 1 and not line.endswith("\n"):
        notes.add(NO_LINE_END, f"line {number}")


_READS = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_ROWS = 1_000  # fetched at once from a server
_TABLES_OF_SQLITE = """SELECT name FROM sqlite_master
    WHERE type IN ('table', 'view') AND substr(name, 1, 7) <> 'sqlite_' ORDER BY name"""
_TABLES_OF_A_SERVER = """SELECT quote_ident(table_schema) || '.' || quote_ident(table_name)
    FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"""
_QueryRows = Iterator[Sequence[Any]]


class Database:
    def __init__(self, url: str, query: OwnQuery | None) -> None:
        """Raises SettingsError for an address or query that is none, or that holds a password."""
        _check_address(url)
        self._url, self._query = url, query
        self._file = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:") else None
        self.name = url if self._file is None else f"sqlite:///{self._file.resolve()}"
        if query is None:  # to be looked at, and not read
            return
        bare = _QUOTED.sub(" ", query.text).strip().rstrip(";")
        if ";" in bare or not re.match(r"(select|with|values|table)\b", bare, re.IGNORECASE):
            raise SettingsError(f"{query.place}: is not one SELECT, and a database is only read")

    def read(self, ask: Ask) -> Reading:
        """Read `ask`'s facts; raises SourceError where the database or the query fails, or with all bad rows."""
        if self._query is None:
            raise SettingsError("a database needs --query: a SELECT with the columns subject and object")
        check_ask(ask, self.name, "a database")
        notes = Notes()
        columns = Columns(f"{self.name}, row", ask, notes, of_query=True)
        told = {"relation": ask.relation, "language": ask.language, "day": ask.day.isoformat()}
        with self._rows(self._query, told) as (header, rows):
            numbered = ((number, [_text(value) for value in row]) for number, row in enumerate(rows, start=1))
            facts = chosen(columns.facts(header, numbered), ask, notes)
        return notes.reading(self.name, self._query.text, facts)

    def predicates(self) -> Counted:
        """Return what `counted` gives of the rows of all tables and views: by their relation, or by column."""

        def rows_of(text: str) -> Iterator[list[str]]:
            with self._rows(OwnQuery(text, "its tables"), {}) as (header, rows):
                yield header
                yield from (["" if isinstance(value, bytes) else str(value or "") for value in row] for row in rows)

        def statements() -> Iterator[tuple[str, str, str]]:
            for (table,) in list(rows_of(_TABLES_OF_SQLITE if self._file else _TABLES_OF_A_SERVER))[1:]:
                name = f'"{table.replace(chr(34), 2 * chr(34))}"' if self._file else table.replace(":", r"\:")
                rows = rows_of(f"SELECT * FROM {name}")
                yield from stated(next(rows), rows, f"{table}.")

        return counted(statements())

    @contextmanager
    def _rows(self, query: OwnQuery, told: dict[str, str]) -> Iterator[tuple[list[str], _QueryRows]]:
        try:
            with _of_sqlite(self._file, query.text, told) if self._file else self._of_server(query, told) as found:
                yield found
        except sqlite3.Error as error:
            raise SourceError(self._failed(query, error), query=query.text) from error

    @contextmanager
    def _of_server(self, query: OwnQuery, told: dict[str, str]) -> Iterator[tuple[list[str], _QueryRows]]:
        try:
            import sqlalchemy
        except ImportError as error:
            raise SettingsError(f"{self.name}: needs SQLAlchemy and psycopg: pip install 'kbsync[postgres]'") from error
        address = re.sub(r"^postgres(ql)?:", "postgresql+psycopg:", self._url)
        bound = {name: value for name, value in told.items() if re.search(rf"(?<!:):{name}\b", query.text)}
        reading = {"options": "-c default_transaction_read_only=on"}
        try:
            engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.pool.NullPool, connect_args=reading)
            with engine.connect().execution_options(yield_per=_ROWS) as connection:
                result = connection.execute(sqlalchemy.text(query.text), bound)
                yield list(result.keys()), iter(result)
        except sqlalchemy.exc.SQLAlchemyError as error:
            reason = getattr(error, "orig", None) or error
            raise SourceError(self._failed(query, reason), query=query.text) from error

    def _failed(self, query: OwnQuery, error: BaseException) -> str:
        return f"{self.name}, {query.place}: {shown(str(error), 300)}; check the address and the query"


def _check_address(url: str) -> None:
    """Raise SettingsError, without showing it, where an address is wrong or holds a password."""
    scheme = url.partition(":")[0]
    try:
        parts = urlsplit(url)
        secret, host = parts.password is not None or SECRET.search(parts.query) is not None, parts.hostname
        _ = parts.port
    except ValueError as error:
        raise SettingsError(f"source {scheme}: its address cannot be read; check its host and port") from error
    if secret:
        raise SettingsError(
            f"source {scheme} at {host!r}: leave the password out of the address: the ledger keeps that; PGPASSWORD or "
            "~/.pgpass tells it"
        )
    if not (url.startswith("sqlite:///") and len(url) > len("sqlite:///")) and not re.match(
        r"postgres(ql)?(\+psycopg)?://", url
    ):
        raise SettingsError(f"source {scheme}: write sqlite:///FILE.db or postgresql://HOST/DATABASE")


@contextmanager
def _of_sqlite(file: Path, query: str, told: dict[str, str]) -> Iterator[tuple[list[str], _QueryRows]]:
    if not file.is_file():
        raise SourceError(f"{file}: no such database; check the name")
    with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as connection:
        connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY)
        cursor = connection.execute(query, told)
        yield [name for name, *_ in cursor.description], iter(cursor)


def _text(value: object) -> str:
    """Return a value as text, "" for NULL; raises SourceError for what is too long, or no text."""
    if isinstance(value, datetime.datetime):
        value = value.date()
    text = "" if value is None else str(value)
    if isinstance(value, bytes | bytearray | memoryview) or len(text) > ROW.bytes:
        raise SourceError(f"gives bytes, or text of {len(text):,} letters, where a label is wanted ({ROW.told})")
    return text
