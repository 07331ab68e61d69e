"""Facts from a database, by a SELECT of the user's own: SQLite, and PostgreSQL through SQLAlchemy (kbsync[postgres]).

The columns are those of a table file, as the query names them (``SELECT land AS subject, ...``); the relation is the
one that is asked for, where no column says it. ``:relation``, ``:language`` and ``:day`` in the query are bound. A
database is opened for reading alone, and its rows are read one by one.
"""

import datetime
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from kbsync.errors import SettingsError, SourceError
from kbsync.files import ROW
from kbsync.sources.base import SECRET, Ask, Counted, Notes, Reading, shown
from kbsync.sources.file_facts import check_ask, chosen, counted
from kbsync.sources.own_query import OwnQuery
from kbsync.sources.table_file import Columns, stated

_READS = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_ROWS = 1_000
"""fetched at once from a server"""
_TABLES_OF_SQLITE = """SELECT name FROM sqlite_master
    WHERE type IN ('table', 'view') AND substr(name, 1, 7) <> 'sqlite_' ORDER BY name"""
_TABLES_OF_A_SERVER = """SELECT quote_ident(table_schema) || '.' || quote_ident(table_name)
    FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"""
_Rows = Iterator[Sequence[Any]]


class Database:
    """A database, asked one query for each relation."""

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
    def _rows(self, query: OwnQuery, told: dict[str, str]) -> Iterator[tuple[list[str], _Rows]]:
        try:
            with _of_sqlite(self._file, query.text, told) if self._file else self._of_server(query, told) as found:
                yield found
        except sqlite3.Error as error:
            raise SourceError(self._failed(query, error), query=query.text) from error

    @contextmanager
    def _of_server(self, query: OwnQuery, told: dict[str, str]) -> Iterator[tuple[list[str], _Rows]]:
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
def _of_sqlite(file: Path, query: str, told: dict[str, str]) -> Iterator[tuple[list[str], _Rows]]:
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
