"""From the tables' rows to the dataclasses of `rows`."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar

from kbsync.facts import Entity, Wording
from kbsync.ledger.connection import Database

__all__ = ["columns", "compact", "select", "wording_from", "wording_json"]

Row = TypeVar("Row")


def select(db: Database, row: type[Row], table: str, rest: str = "", values: Sequence[object] = ()) -> list[Row]:
    """The rows of `table` that `rest` (WHERE, ORDER BY, LIMIT) leaves, with their JSON columns decoded."""
    found = db.execute(f"SELECT {columns(row)} FROM {table} {rest}", values).fetchall()
    decoders = [(place, _DECODERS[name]) for place, name in enumerate(_names(row)) if name in _DECODERS]
    if not decoders:
        return [row(*value) for value in found]
    return [row(*_decoded(cells, decoders)) for cells in found]


def _decoded(cells: Sequence[Any], decoders: Sequence[tuple[int, Callable[[str], object]]]) -> Sequence[Any]:
    """A row with those cells decoded that are not null; most rows of facts have none."""
    decoded = None
    for place, decode in decoders:
        if cells[place] is not None:
            decoded = decoded or list(cells)
            decoded[place] = decode(cells[place])
    return decoded or cells


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
    "contexts": _list,
    "layers": _list,
    "objects": _entities,
    "wording": wording_from,
}
