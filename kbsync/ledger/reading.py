"""From the tables' rows to the dataclasses of `rows`."""

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from kbsync.facts import Entity
from kbsync.ledger.connection import Database

__all__ = ["columns", "compact", "select"]

Row = TypeVar("Row")


def select(db: Database, row: type[Row], table: str, rest: str = "", values: Sequence[object] = ()) -> list[Row]:
    """The rows of `table` that `rest` (WHERE, ORDER BY, LIMIT) leaves, with their JSON columns decoded."""
    found = db.execute(f"SELECT {columns(row)} FROM {table} {rest}", values).fetchall()
    decoders = [_DECODERS.get(name) for name in _names(row)]
    if not any(decoders):
        return [row(*value) for value in found]
    return [
        row(*(decode(cell) if decode else cell for decode, cell in zip(decoders, cells, strict=True)))
        for cells in found
    ]


def columns(row: type[Any]) -> str:
    """The fields of a row's class as SQL."""
    return ", ".join(f'"{name}"' for name in _names(row))


def compact(value: object) -> str:
    """`value` as JSON with sorted keys."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _names(row: type[Any]) -> list[str]:
    return [field.name for field in fields(row)]


def _list(text: str) -> tuple[Any, ...]:
    return tuple(json.loads(text))


def _entities(text: str) -> tuple[Entity, ...]:
    return tuple(Entity(entity["label"], entity["id"]) for entity in json.loads(text))


_DECODERS: dict[str, Callable[[str], object]] = {
    "settings": json.loads,
    "seconds": json.loads,
    "files": json.loads,
    "work": json.loads,
    "contexts": _list,
    "layers": _list,
    "objects": _entities,
}
