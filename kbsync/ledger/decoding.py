"""From SQLite's rows to the values of `rows` and back; what is no value of its column is told by row and column.

Seals: a hash on each row that decides what is served, so that a changed byte is seen before it is believed.

A table's rows carry their own hash (`seal`), and the table `seals` holds one over all seals of a table, so that a row
that has gone is missed. A trigger clears the seal of a row that is updated, and the transaction seals what is unsealed
before it commits; what another program changes stays unsealed. The hash finds damage; it keeps no secret.
"""

import datetime
import hashlib
import json
import sqlite3
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import asdict, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from kbsync.facts import Entity, Wording
from kbsync.ledger.db import Database

Row = TypeVar("Row")


def select(db: Database, row: type[Row], table: str, rest: str = "", values: Sequence[object] = ()) -> list[Row]:
    """The rows of `table` that `rest` (WHERE, ORDER BY, LIMIT) leaves, with their JSON columns decoded.

    Raises ValueError with row, column and value where one is not of the column's type.
    """
    sql = f"SELECT {columns(row)} FROM {table} {rest}"
    try:
        found = db.execute(sql, values).fetchall()
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):
            raise
        found = list(raw(db, sql, values))  # text that is no UTF-8: let the check below say where
    fine: set[tuple[type, ...]] = set()
    decoders = [(place, _DECODERS[name]) for place, name in enumerate(_names(row)) if name in _DECODERS]
    try:
        for cells in found:
            if (types := tuple(map(type, cells))) not in fine:
                if wrong := wrong_value(row, cells):
                    raise ValueError(wrong)
                fine.add(types)
        if not decoders:
            return [row(*cells) for cells in found]
        return [row(*_decoded(cells, decoders)) for cells in found]
    except (ValueError, TypeError, KeyError) as error:
        wrong = next(filter(None, (wrong_value(row, cells) for cells in found)), str(error))
        raise ValueError(f"{table}, {wrong}") from error


def _decoded(cells: Sequence[Any], decoders: Sequence[tuple[int, Callable[[str], object]]]) -> Sequence[Any]:
    """A row with those cells decoded that are not null; most rows of facts have none."""
    decoded = None
    for place, decode in decoders:
        if cells[place] is not None:
            decoded = decoded or list(cells)
            decoded[place] = decode(cells[place])
    return decoded or cells


def raw(db: Database, sql: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield rows as they are: bytes that are no UTF-8 become lone surrogates. Nothing else is asked meanwhile."""
    factory = db.conn.text_factory
    db.conn.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    try:
        yield from db.conn.execute(sql, values)
    finally:
        db.conn.text_factory = factory


def wrong_value(row: type[Any], cells: Sequence[Any], times: Collection[str] = ()) -> str | None:
    """Return row and column of the first value that is not what its field takes; `times` are fields that hold one."""
    names = _names(row)
    for name, kinds, cell in zip(names, _kinds(cast(Hashable, row)), cells, strict=True):
        try:
            if type(cell) not in kinds:
                raise TypeError
            if isinstance(cell, str):
                cell.encode()
                if name in times:
                    datetime.datetime.fromisoformat(cell)
                if name in _DECODERS:
                    _DECODERS[name](cell)
        except (ValueError, TypeError, KeyError, AttributeError):
            return f"row {cells[0]}, column {name}: {str(cell)[:80]!a} is no value for it"
    return None


@cache
def _kinds(row: Any) -> tuple[frozenset[type], ...]:
    """What SQLite may hold for each field of a row's class."""
    hints = get_type_hints(row)
    return tuple(frozenset(_stored(hints[name])) for name in _names(row))


def _stored(hint: Any) -> Iterator[type]:
    """The types that a field of this annotation is stored as; what is no number is text."""
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        for part in get_args(hint):
            yield from _stored(part)
    elif hint is float:
        yield from (float, int)
    else:
        yield hint if hint in (int, NoneType) else str


def columns(row: type[Any]) -> str:
    return ", ".join(f'"{name}"' for name in _names(row))


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _names(row: type[Any]) -> list[str]:
    return [field.name for field in fields(row)]


def objects_json(objects: Sequence[Entity]) -> str:
    return compact([{"id": entity.id, "label": entity.label} for entity in objects])


def wording_json(wording: Wording | None) -> str | None:
    return None if wording is None else compact(asdict(wording))


def wording_from(text: str) -> Wording:
    told = json.loads(text)
    return Wording(told["prompt"], tuple(told["paraphrases"]), told["question"])


_DECODERS: dict[str, Callable[[str], object]] = {
    **dict.fromkeys(("settings", "seconds", "files", "work", "scope"), json.loads),
    "contexts": lambda text: tuple(json.loads(text)),
    "layers": lambda text: tuple(json.loads(text)),
    "objects": lambda text: tuple(Entity(one["label"], one["id"]) for one in json.loads(text)),
    "wording": wording_from,
}


SEALED_SINCE = 9
"""the schema that brought the seals"""
SEALED = {
    "models": ("key",),
    "batches": ("id",),
    "edits": ("id",),
    "endings": ("batch", "edit"),
    "rollbacks": ("id",),
    "vetoes": ("id",),
}
"""the sealed tables, with their primary keys"""


def prepare(db: Database) -> None:
    """Give the tables their seals: a column and a trigger each; the table of tables."""
    db.execute("CREATE TABLE seals (name TEXT PRIMARY KEY, rows INTEGER NOT NULL, seal TEXT NOT NULL) WITHOUT ROWID")
    for table, key in SEALED.items():
        same = " AND ".join(f"{column} = NEW.{column}" for column in key)
        db.execute(f"ALTER TABLE {table} ADD COLUMN seal TEXT")
        db.execute(f"CREATE INDEX {table}_unsealed ON {table}({key[0]}) WHERE seal IS NULL")
        db.execute(
            f"""CREATE TRIGGER {table}_unseal AFTER UPDATE ON {table}
            WHEN NEW.seal IS OLD.seal AND NEW.seal IS NOT NULL
            BEGIN UPDATE {table} SET seal = NULL WHERE {same}; END"""
        )
    renew(db)


def seal(db: Database) -> None:
    """Seal the rows that have none, and the tables that they are in. The caller holds the transaction."""
    for table, key in SEALED.items():
        if db.execute(f"SELECT 1 FROM {table} WHERE seal IS NULL LIMIT 1").fetchone() is None:
            continue
        found = [(made, *values) for values, _, made in _rows(db, table, "WHERE seal IS NULL")]
        same = " AND ".join(f"{column} = ?" for column in key)
        db.conn.executemany(f"UPDATE {table} SET seal = ? WHERE {same}", found)
        seals = [row[0] for row in db.execute(f"SELECT seal FROM {table}")]
        db.execute("INSERT OR REPLACE INTO seals (name, rows, seal) VALUES (?, ?, ?)", (table, len(seals), _all(seals)))


def renew(db: Database) -> None:
    """Seal every row anew: the schema has changed, and with it what a row holds."""
    for table in SEALED:
        db.execute(f"UPDATE {table} SET seal = NULL")
        db.execute("INSERT OR REPLACE INTO seals (name, rows, seal) VALUES (?, 0, ?)", (table, _all([])))
    seal(db)


def broken_seals(db: Database) -> list[str]:
    """Return what is wrong with the sealed rows, each named by its table and key; none where all is as written."""
    inside = db.conn.in_transaction
    if not inside:
        db.conn.execute("BEGIN")  # one view of all tables: another process may finish a batch meanwhile
    try:
        return [fault for table in SEALED for fault in _faults(db, table)]
    finally:
        if not inside:
            db.conn.rollback()


def _faults(db: Database, table: str) -> Iterator[str]:
    try:
        said = [str(row[0]) for row in db.execute(f"PRAGMA integrity_check({table})")]
        rows = list(_rows(db, table))
        total = db.execute("SELECT rows, seal FROM seals WHERE name = ?", [table]).fetchone()
    except (sqlite3.DatabaseError, ValueError) as error:
        yield f"the table {table} cannot be read ({error})"
        return
    yield from (f"the table {table} is damaged: {' '.join(text.split())}" for text in said if text != "ok")
    broken = [values for values, held, made in rows if held != made]
    yield from (f"row {' '.join(map(str, values))} of {table} is not what kbsync wrote" for values in broken)
    seals = [str(held) for _, held, _ in rows]
    if not broken and (total is None or tuple(total) != (len(seals), _all(seals))):
        counted = f"it has {len(seals)} rows, and {total[0]} were written" if total else "nothing says what it held"
        yield f"the table {table} is not what kbsync wrote: {counted}"


def _rows(db: Database, table: str, where: str = "") -> Iterator[tuple[tuple[object, ...], object, str]]:
    """Yield the key of each row, the seal that it has, and the one that its values make."""
    rows = raw(db, f"SELECT * FROM {table} {where}")
    names = [column[0] for column in db.conn.execute(f"SELECT * FROM {table} LIMIT 0").description]
    place = names.index("seal")
    keys = [names.index(column) for column in SEALED[table]]
    del names[place]
    about = json.dumps([table, names])
    for row in rows:
        values = [*row[:place], *row[place + 1 :]]
        text = about + json.dumps(values, default=bytes.hex)
        yield tuple(row[key] for key in keys), row[place], hashlib.sha256(text.encode()).hexdigest()[:16]


def _all(seals: list[str]) -> str:
    """The seal of a table: of its rows' seals, in whatever order they come."""
    return hashlib.sha256(" ".join(sorted(seals)).encode()).hexdigest()
