"""From SQLite's rows to the values of `rows` and back; what is no value of its column is told by row and column."""

import datetime
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
    """The fields of a row's class as SQL."""
    return ", ".join(f'"{name}"' for name in _names(row))


def compact(value: object) -> str:
    """`value` as JSON with sorted keys."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _names(row: type[Any]) -> list[str]:
    return [field.name for field in fields(row)]


def objects_json(objects: Sequence[Entity]) -> str:
    """The objects of a conflict as the conflicts table holds them."""
    return compact([{"id": entity.id, "label": entity.label} for entity in objects])


def _list(text: str) -> tuple[Any, ...]:
    return tuple(json.loads(text))


def _entities(text: str) -> tuple[Entity, ...]:
    return tuple(Entity(entity["label"], entity["id"]) for entity in json.loads(text))


def wording_json(wording: Wording | None) -> str | None:
    """A wording as the facts table holds it."""
    return None if wording is None else compact(asdict(wording))


def wording_from(text: str) -> Wording:
    """The wording that `wording_json` wrote."""
    told = json.loads(text)
    return Wording(told["prompt"], tuple(told["paraphrases"]), told["question"])


_DECODERS: dict[str, Callable[[str], object]] = {
    "settings": json.loads,
    "seconds": json.loads,
    "files": json.loads,
    "work": json.loads,
    "scope": json.loads,
    "contexts": _list,
    "layers": _list,
    "objects": _entities,
    "wording": wording_from,
}
