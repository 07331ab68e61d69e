"""The values that the ledger takes and gives. Times are ISO 8601 in UTC; ids are the rows' ids in ledger.db."""

import datetime
import json
import sqlite3
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from kbsync.facts import Entity, Fact, Skipped, Wording
from kbsync.ledger.db import Database

__all__ = [
    "BatchRow",
    "Change",
    "ConflictNote",
    "ConflictRow",
    "EditRow",
    "EndingRow",
    "FactRow",
    "HistoryRow",
    "Metric",
    "MetricRow",
    "ModelRow",
    "NewEdit",
    "PullCounts",
    "PullRow",
    "RollbackRow",
    "SkippedRow",
    "TargetRow",
    "VetoRow",
    "Withdraw",
    "columns",
    "compact",
    "objects_json",
    "raw",
    "select",
    "wording_from",
    "wording_json",
    "wrong_value",
]


Withdraw = Literal["all", "none"] | frozenset[str]


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a pull's diff, in labels: ``+`` has no previous object, ``-`` no object, ``~`` both.

    ``=`` is the same object under another label, of its own or of its subject.
    """

    sign: Literal["+", "~", "-", "="]
    subject: str
    relation: str
    previous: str | None
    object: str | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class SkippedRow(Skipped):
    """The same on record; `first_seen` and `last_seen` are pulls."""

    source: str
    relation: str
    first_seen: int
    last_seen: int


@dataclass(frozen=True, slots=True)
class PullCounts:
    """What a pull found: facts by what became of them, and subjects that have several objects (`conflicting`)."""

    pull: int
    new: int
    changed: int
    withdrawn: int
    unchanged: int
    conflicting: int
    relabelled: int = 0
    """the same object under another label, of its own or of its subject"""
    standing: int = 0
    """facts of this source and relation that stood before"""


@dataclass(frozen=True, slots=True)
class PullRow:
    """One reading of one source for one relation."""

    id: int
    source: str
    relation: str
    query: str | None
    started: str
    finished: str
    new: int
    changed: int
    withdrawn: int
    unchanged: int
    conflicting: int
    as_of: str | None
    """the day that was asked about; None: the day of the pull"""
    scope: Mapping[str, Any] | None = None
    """what narrowed it: class, min_sitelinks, limit, subjects; None: the whole relation, or an older record"""
    relabelled: int = 0


@dataclass(frozen=True, slots=True)
class FactRow:
    """A statement of one source. `first_seen`, `last_seen` and `withdrawn` are pulls; not withdrawn: None."""

    id: int
    source: str
    relation: str
    subject_key: str
    subject_label: str
    subject_id: str | None
    object_key: str
    object_label: str
    object_id: str | None
    rank: str
    since: str | None
    first_seen: int
    last_seen: int
    withdrawn: int | None
    wording: Wording | None = None
    """the fact's own, in place of its relation's template"""

    @property
    def fact(self) -> Fact:
        """The statement as a value."""
        subject = Entity(self.subject_label, self.subject_id)
        thing = Entity(self.object_label, self.object_id)
        return Fact(subject, self.relation, thing, self.rank, self.since, self.wording)


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """An object that a fact named earlier, and the pull that changed or withdrew it."""

    fact: int
    object_key: str
    object_label: str
    object_id: str | None
    rank: str
    since: str | None
    ended: Literal["changed", "relabelled", "withdrawn"]
    ended_by: int
    restated_by: int | None
    """the pull that stated a withdrawn fact again, where that is on record"""
    subject_label: str | None = None
    """as it was; None in older records"""


@dataclass(frozen=True, slots=True)
class ConflictNote:
    """A conflict that an apply met, and how it was resolved; `Ledger.finish_batch` records it."""

    relation: str
    subject_key: str
    subject: str
    objects: tuple[Entity, ...]
    resolution: str


@dataclass(frozen=True, slots=True)
class ConflictRow:
    """A conflict on record: seen by a pull (then `batch` is None) or resolved by an apply (then `pull` is)."""

    id: int
    pull: int | None
    batch: int | None
    relation: str
    subject_key: str
    subject: str
    objects: tuple[Entity, ...]
    resolution: str


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A base model. `key` is its content id; `weights_sha256` is that of all weights and the tokenizer."""

    key: str
    name: str
    revision: str | None
    architecture: str
    weights_sha256: str
    settings: Mapping[str, Any]
    contexts: tuple[str, ...]
    layers: tuple[int, ...]
    recorded: str
    used: str


@dataclass(frozen=True, slots=True)
class TargetRow:
    """Where a target vector z lies: a row of the tensor in `file`, with the steps it took and its last loss."""

    key: str
    model: str
    file: str
    row: int
    steps: int
    loss: float


@dataclass(frozen=True, slots=True)
class BatchRow:
    """All edits of one apply. `seconds` by phase; `files` maps names in the tensors folder to their sha256.

    `parent` is the batch whose state it went on from; None where that was the base model. `work` is what it had to do
    (edits, targets to optimise, facts held) and the bounds that its result was held to; {} in older batches.
    """

    id: int
    model: str
    algorithm: str
    settings: Mapping[str, Any]
    started: str
    finished: str | None
    state: Literal["running", "done", "failed", "rolled back"]
    reason: str | None
    device: str
    seconds: Mapping[str, float]
    peak_memory_mb: float | None
    files: Mapping[str, str]
    parent: int | None = None
    work: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewEdit:
    """A request that an apply wrote: `fact` is a FactRow's id, `request` an EditRequest's, `target` a z cache key."""

    fact: int
    relation: str
    subject_key: str
    subject: str
    object_key: str
    object: str
    prompt: str
    request: str
    target: str | None
    retries: int = 0
    """how often it was given more steps and a larger clamp, since the model did not recall it"""


@dataclass(frozen=True, slots=True)
class EditRow:
    """An edit on record, as it was written; `ended_by` is the batch that superseded or retracted it.

    Its state is that of now: rolled back where its batch is.
    """

    id: int
    batch: int
    model: str
    fact: int
    relation: str
    subject_key: str
    subject: str
    object_key: str
    object: str
    prompt: str
    request: str
    target: str | None
    state: Literal["active", "superseded", "retracted", "rolled back"]
    ended_by: int | None
    retries: int = 0


@dataclass(frozen=True, slots=True)
class EndingRow:
    """That a batch ended an edit. Two batches may have ended the same one, where a rollback lies between them."""

    batch: int
    edit: int
    state: Literal["superseded", "retracted"]


@dataclass(frozen=True, slots=True)
class RollbackRow:
    """That another batch's state was made current, without an apply; None is the base model."""

    id: int
    model: str
    from_batch: int | None
    to_batch: int | None
    time: str


@dataclass(frozen=True, slots=True)
class VetoRow:
    """A user's word that a fact is not to be written. `object_key` None: whatever its object; `lifted` None: holds."""

    id: int
    relation: str
    subject_key: str
    subject: str
    object_key: str | None
    object: str | None
    reason: str | None
    since: str
    lifted: str | None


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured figure: of the edit that wrote `request`, or of the whole batch where `request` is None."""

    name: str
    before: float | None
    after: float | None
    request: str | None = None


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A figure on record; `edit` is None for the whole batch."""

    batch: int
    edit: int | None
    name: str
    before: float | None
    after: float | None


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
        found = raw(db, sql, values)  # text that is no UTF-8: let the check below say where
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


def raw(db: Database, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Rows as they are: bytes that are no UTF-8 become lone surrogates."""
    factory = db.conn.text_factory
    db.conn.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    try:
        return db.conn.execute(sql, values).fetchall()
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
