"""Recording a pull: the statements of one source for one relation, compared with those on record."""

import datetime
import itertools
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kbsync.facts import Entity, Fact, normalise_label
from kbsync.ledger.connection import Database, insert, iso, now
from kbsync.ledger.reading import columns, compact, select, wording_json
from kbsync.ledger.rows import Change, FactRow, HistoryRow, PullCounts

__all__ = ["Withdraw", "objects_json", "record_pull"]

# Subjects whose missing facts may be marked withdrawn: all, none beyond those read, or these keys or labels.
Withdraw = Literal["all", "none"] | frozenset[str]


@dataclass(slots=True)
class _Diff:
    """What a pull does to the facts on record: each row and each fact read is in one list."""

    new: list[Fact] = field(default_factory=list)
    revived: list[tuple[FactRow, Fact]] = field(default_factory=list)
    changed: list[tuple[FactRow, Fact]] = field(default_factory=list)
    unchanged: list[tuple[FactRow, Fact]] = field(default_factory=list)
    withdrawn: list[FactRow] = field(default_factory=list)


def record_pull(
    db: Database,
    *,
    source: str,
    relation: str,
    query: str | None,
    facts: Sequence[Fact],
    withdraw: Withdraw,
    started: datetime.datetime,
    rest_unchanged: bool = False,
    as_of: datetime.date | None = None,
    nameless: Collection[tuple[str, str]] = (),
) -> PullCounts:
    """Write the pull and all that it changes. The caller holds the transaction.

    `rest_unchanged`: `withdraw` names all the subjects that were read, and the others stand as they are on record.
    """
    read = _by_subject(facts, relation)
    among = sorted({*read, *withdraw}) if rest_unchanged else None
    rows = _rows(db, source, relation, among)
    for row in itertools.chain.from_iterable(rows.values()):
        if row.withdrawn is None and (row.subject_key, row.object_key) in nameless:
            read.setdefault(row.subject_key, {}).setdefault(row.object_key, row.fact)
    diff = _compare(rows, read, withdraw)
    contested = [objects for objects in read.values() if len(objects) > 1]
    counts = {
        "new": len(diff.new) + len(diff.revived),
        "changed": len(diff.changed),
        "withdrawn": len(diff.withdrawn),
        "unchanged": len(diff.unchanged),
        "conflicting": len(contested),
    }
    times = {"started": iso(started), "finished": now()}
    about = {"source": source, "relation": relation, "query": query, "as_of": as_of and as_of.isoformat()}
    pull = insert(db, "pulls", {**about, **times, **counts})
    if among is not None:
        counts |= _see_rest(db, pull, source, relation, among, counts)
    _write(db, pull, source, diff)
    _record_conflicts(db, pull, relation, contested)
    return PullCounts(pull=pull, changes=_changes(diff, relation), **counts)


def objects_json(objects: Sequence[Entity]) -> str:
    """The objects of a conflict as the conflicts table holds them."""
    return compact([{"id": entity.id, "label": entity.label} for entity in objects])


def _by_subject(facts: Sequence[Fact], relation: str) -> dict[str, dict[str, Fact]]:
    """subject key -> object key -> fact, in the order read; a statement given twice counts once."""
    read: dict[str, dict[str, Fact]] = defaultdict(dict)
    for fact in facts:
        if fact.relation != relation:
            raise ValueError(f"a pull of {relation} was given a fact of {fact.relation}")
        read[fact.subject.key].setdefault(fact.object.key, fact)
    return read


def _rows(db: Database, source: str, relation: str, among: Sequence[str] | None) -> dict[str, list[FactRow]]:
    """subject key -> its rows, withdrawn ones too, oldest first; of the subjects `among` (None: of all)."""
    where, values = "source = ? AND relation = ?", [source, relation]
    if among is not None:
        where, values = f"{where} AND subject_key IN (SELECT value FROM json_each(?))", [*values, json.dumps(among)]
    rows: dict[str, list[FactRow]] = defaultdict(list)
    for row in select(db, FactRow, "facts", f"WHERE {where}", values):
        rows[row.subject_key].append(row)
    for found in rows.values():
        found.sort(key=lambda row: row.id)
    return rows


def _see_rest(
    db: Database, pull: int, source: str, relation: str, among: Sequence[str], counts: Mapping[str, int]
) -> dict[str, int]:
    """Record that the facts and conflicts of all subjects but those `among` were seen as they are on record.

    Returns the pull's counts of unchanged facts and of conflicts with these.
    """
    others = "subject_key NOT IN (SELECT value FROM json_each(?))"
    facts = db.execute(
        f"UPDATE facts SET last_seen = ? WHERE source = ? AND relation = ? AND withdrawn IS NULL AND {others}",
        [pull, source, relation, json.dumps(among)],
    )
    conflicts = db.execute(
        f"""INSERT INTO conflicts (pull, relation, subject_key, subject, objects, resolution)
        SELECT ?, relation, subject_key, subject, objects, resolution FROM conflicts
        WHERE pull = (SELECT max(id) FROM pulls WHERE source = ? AND relation = ? AND id < ?) AND {others}
        ORDER BY id""",
        [pull, source, relation, pull, json.dumps(among)],
    )
    seen = {
        "unchanged": counts["unchanged"] + facts.rowcount,
        "conflicting": counts["conflicting"] + conflicts.rowcount,
    }
    db.table("pulls").update(pull, seen)
    return seen


def _compare(rows: dict[str, list[FactRow]], read: dict[str, dict[str, Fact]], withdraw: Withdraw) -> _Diff:
    diff = _Diff()
    for key, objects in read.items():
        _compare_subject(diff, rows.get(key, []), objects)
    for key, missing in rows.items():
        if key not in read and any(_asked(row, withdraw) for row in missing):
            diff.withdrawn += [row for row in missing if row.withdrawn is None]
    return diff


def _compare_subject(diff: _Diff, rows: list[FactRow], read: dict[str, Fact]) -> None:
    """Compare sets of objects. An old object and a new one that are both left over are one change."""
    current = {row.object_key: row for row in rows if row.withdrawn is None}
    ended = {row.object_key: row for row in rows if row.withdrawn is not None}
    diff.unchanged += [(current[key], fact) for key, fact in read.items() if key in current]
    old = [row for key, row in current.items() if key not in read]
    new = [fact for key, fact in read.items() if key not in current]
    diff.changed += zip(old, new, strict=False)
    # A source gives a subject with all of its objects: one that it no longer gives is withdrawn, in part pulls too.
    diff.withdrawn += old[len(new) :]
    for fact in new[len(old) :]:
        row = ended.get(fact.object.key)
        if row is None:
            diff.new.append(fact)
        else:
            diff.revived.append((row, fact))


def _asked(row: FactRow, withdraw: Withdraw) -> bool:
    if isinstance(withdraw, str):
        return withdraw == "all"
    return row.subject_key in withdraw or normalise_label(row.subject_label) in withdraw


def _write(db: Database, pull: int, source: str, diff: _Diff) -> None:
    past: list[tuple[FactRow, str, int, int | None]] = [(row, "changed", pull, None) for row, _ in diff.changed]
    past += [(row, "withdrawn", row.withdrawn, pull) for row, _ in diff.revived if row.withdrawn is not None]
    db.conn.executemany(
        f"INSERT INTO fact_history ({columns(HistoryRow)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (row.id, row.object_key, row.object_label, row.object_id, row.rank, row.since, *ending)
            for row, *ending in past
        ],
    )
    db.conn.executemany(
        """UPDATE facts SET subject_name = ?, subject_label = ?, subject_id = ?, object_key = ?, object_label = ?,
        object_id = ?, rank = ?, since = ?, wording = ?, last_seen = ?, withdrawn = NULL WHERE id = ?""",
        [
            (normalise_label(fact.subject.label), *_values(fact)[1:], pull, row.id)
            for row, fact in (*diff.changed, *diff.revived, *diff.unchanged)
        ],
    )
    db.conn.executemany("UPDATE facts SET withdrawn = ? WHERE id = ?", [(pull, row.id) for row in diff.withdrawn])
    db.conn.executemany(
        """INSERT INTO facts (source, relation, subject_key, subject_label, subject_id, object_key, object_label,
        object_id, rank, since, wording, first_seen, last_seen, subject_name)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        [(source, fact.relation, *_values(fact), pull, pull, normalise_label(fact.subject.label)) for fact in diff.new],
    )


def _values(fact: Fact) -> tuple[str | None, ...]:
    """The fact's columns from subject_key to since, and wording."""
    subject, thing = fact.subject, fact.object
    named = (subject.key, subject.label, subject.id, thing.key, thing.label, thing.id)
    return (*named, fact.rank, fact.since, wording_json(fact.wording))


def _record_conflicts(db: Database, pull: int, relation: str, contested: Sequence[dict[str, Fact]]) -> None:
    rows = []
    for objects in contested:
        subject = next(iter(objects.values())).subject
        named = objects_json([fact.object for fact in objects.values()])
        rows.append((pull, relation, subject.key, subject.label, named, "kept out"))
    db.conn.executemany(
        "INSERT INTO conflicts (pull, relation, subject_key, subject, objects, resolution) VALUES (?, ?, ?, ?, ?, ?)",
        rows,
    )


def _changes(diff: _Diff, relation: str) -> tuple[Change, ...]:
    came = (*diff.new, *(fact for _, fact in diff.revived))
    return (
        *(Change("+", fact.subject.label, relation, None, fact.object.label) for fact in came),
        *(Change("~", fact.subject.label, relation, row.object_label, fact.object.label) for row, fact in diff.changed),
        *(Change("-", row.subject_label, relation, row.object_label, None) for row in diff.withdrawn),
    )
