"""Recording a pull: what a source states, compared with what is on record; and what helps the next one."""

import datetime
import itertools
import json
import zlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kbsync.errors import LedgerError
from kbsync.facts import Entity, Fact, content_id, normalise_label
from kbsync.ledger.db import Database, insert, iso, now, telling
from kbsync.ledger.rows import (
    Change,
    FactRow,
    HistoryRow,
    PullCounts,
    Skipped,
    SkippedRow,
    columns,
    compact,
    wording_json,
)
from kbsync.ledger.store import RESTORE, Ledger

__all__ = [
    "KEPT",
    "FileReading",
    "Withdraw",
    "drop_expired",
    "drop_pages",
    "find_page",
    "find_reading",
    "keep_page",
    "objects_json",
    "page_key",
    "record_pull",
    "record_reading",
    "skipped_rows",
]


# Subjects whose missing facts may be marked withdrawn: all, none beyond those read, or these keys or labels.
Withdraw = Literal["all", "none"] | frozenset[str]


@dataclass(slots=True)
class _Diff:
    """What a pull does to the facts on record: each row and each fact read is in one list."""

    new: list[Fact] = field(default_factory=list)
    revived: list[tuple[FactRow, Fact]] = field(default_factory=list)
    changed: list[tuple[FactRow, Fact]] = field(default_factory=list)
    relabelled: list[tuple[FactRow, Fact]] = field(default_factory=list)
    unchanged: list[tuple[FactRow, Fact]] = field(default_factory=list)
    withdrawn: list[FactRow] = field(default_factory=list)


def record_pull(
    ledger: Ledger,
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
    scope: Mapping[str, object] | None = None,
    outside: Collection[tuple[str, str]] = (),
    skipped: Sequence[Skipped] = (),
) -> PullCounts:
    """Record one reading of `source` for `relation`, all of it or (on an error) none.

    `facts` holds every object of each subject that was read. `withdraw` says which further subjects were asked
    for, so that facts of theirs that are missing are withdrawn: "all", "none", or a set of keys and normalised
    labels. With `rest_unchanged` the set names all the subjects that were read, as those that changed, and every
    other fact on record was seen as it is. `as_of` is the day that was asked about (None: today). Facts on record
    whose (subject key, object key) is in `nameless` still stand, under the labels that they have on record. `scope` is
    what narrowed the pull, `outside` are pairs like those of `nameless` that the source states outside of it, and
    `skipped` is what was left out. Several pulls inside one `Ledger.writing` block are recorded together or not at all.
    """
    read = _by_subject(facts, relation)
    among = sorted({*read, *withdraw}) if rest_unchanged else None
    about = {"source": source, "relation": relation, "query": query, "as_of": as_of and as_of.isoformat()}
    about["scope"] = compact(scope) if scope else None
    with ledger.writing() as db:
        stood = "SELECT count(*) FROM facts WHERE source = ? AND relation = ? AND withdrawn IS NULL"
        standing = int(db.execute(stood, [source, relation]).fetchone()[0])
        rows = _rows(ledger, source, relation, among)
        for row in itertools.chain.from_iterable(rows.values()):
            if row.withdrawn is None and (row.subject_key, row.object_key) in nameless:
                read.setdefault(row.subject_key, {}).setdefault(row.object_key, row.fact)
        diff = _compare(rows, read, withdraw)
        contested = [objects for objects in read.values() if len(objects) > 1]
        counts = {
            "new": len(diff.new) + len(diff.revived),
            "changed": len(diff.changed),
            "withdrawn": len(diff.withdrawn),
            "relabelled": len(diff.relabelled),
            "unchanged": len(diff.unchanged),
            "conflicting": len(contested),
        }
        pull = insert(db, "pulls", {**about, "started": iso(started), "finished": now(), **counts})
        if among is not None:
            counts |= _see_rest(db, pull, source, relation, among, counts)
        _write(db, pull, source, diff)
        _record_conflicts(db, pull, relation, contested)
        _record_skipped(db, pull, source, relation, among, skipped)
    return PullCounts(
        pull=pull, changes=_changes(diff, relation, outside if scope else None), standing=standing, **counts
    )


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


def _rows(ledger: Ledger, source: str, relation: str, among: Sequence[str] | None) -> dict[str, list[FactRow]]:
    """subject key -> its rows, withdrawn ones too, oldest first; of the subjects `among` (None: of all)."""
    where, values = "source = ? AND relation = ?", [source, relation]
    if among is not None:
        where, values = f"{where} AND subject_key IN (SELECT value FROM json_each(?))", [*values, json.dumps(among)]
    rows: dict[str, list[FactRow]] = defaultdict(list)
    for row in ledger.select(FactRow, "facts", f"WHERE {where}", *values):
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
    for key, fact in read.items():
        if row := current.get(key):
            same = (row.subject_label, row.object_label) == (fact.subject.label, fact.object.label)
            (diff.unchanged if same else diff.relabelled).append((row, fact))
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
    past += [(row, "relabelled", pull, None) for row, _ in diff.relabelled]
    past += [(row, "withdrawn", row.withdrawn, pull) for row, _ in diff.revived if row.withdrawn is not None]
    db.conn.executemany(
        f"INSERT INTO fact_history ({columns(HistoryRow)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (row.id, row.object_key, row.object_label, row.object_id, row.rank, row.since, *ending, row.subject_label)
            for row, *ending in past
        ],
    )
    db.conn.executemany(
        """UPDATE facts SET subject_name = ?, subject_label = ?, subject_id = ?, object_key = ?, object_label = ?,
        object_id = ?, rank = ?, since = ?, wording = ?, last_seen = ?, withdrawn = NULL WHERE id = ?""",
        [
            (normalise_label(fact.subject.label), *_values(fact)[1:], pull, row.id)
            for row, fact in (*diff.changed, *diff.revived, *diff.relabelled, *diff.unchanged)
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


def _record_skipped(
    db: Database, pull: int, source: str, relation: str, among: Sequence[str] | None, skipped: Sequence[Skipped]
) -> None:
    """Record what was left out; what an earlier pull left out of subjects that were not read again still is."""
    if among is not None:
        db.execute(
            """UPDATE skipped SET last_seen = ? WHERE source = ? AND relation = ?
            AND last_seen = (SELECT max(id) FROM pulls WHERE source = ? AND relation = ? AND id < ?)
            AND subject_key NOT IN (SELECT value FROM json_each(?))""",
            [pull, source, relation, source, relation, pull, json.dumps(among)],
        )
    db.conn.executemany(
        """INSERT INTO skipped (source, relation, subject_key, subject_label, object, reason, first_seen, last_seen)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
        SET last_seen = excluded.last_seen, subject_label = excluded.subject_label""",
        [(source, relation, one.subject_key, one.subject_label, one.object, one.reason, pull, pull) for one in skipped],
    )


def skipped_rows(ledger: Ledger, *, now: bool = False) -> list[SkippedRow]:
    """Return what pulls left out; with `now`, what the newest pull of its source and relation did."""
    newest = """(SELECT max(pulls.id) FROM pulls
        WHERE pulls.source = skipped.source AND pulls.relation = skipped.relation)"""
    which = f"WHERE last_seen = {newest}" if now else ""
    return ledger.select(SkippedRow, "skipped", f"{which} ORDER BY source, relation, subject_key, object, reason")


def _changes(diff: _Diff, relation: str, outside: Collection[tuple[str, str]] | None) -> tuple[Change, ...]:
    def relabelled(row: FactRow, fact: Fact) -> str:
        same = row.subject_label == fact.subject.label
        return "relabelled" if same else f"relabelled: the subject was {row.subject_label}"

    def why(row: FactRow) -> str:
        if outside is None:
            return ""
        return "outside the scope now" if (row.subject_key, row.object_key) in outside else "gone from the source"

    came = (*diff.new, *(fact for _, fact in diff.revived))
    return (
        *(Change("+", fact.subject.label, relation, None, fact.object.label) for fact in came),
        *(Change("~", fact.subject.label, relation, row.object_label, fact.object.label) for row, fact in diff.changed),
        *(Change("-", row.subject_label, relation, row.object_label, None, why(row)) for row in diff.withdrawn),
        *(
            Change("=", fact.subject.label, relation, row.object_label, fact.object.label, relabelled(row, fact))
            for row, fact in diff.relabelled
        ),
    )


@dataclass(frozen=True, slots=True)
class FileReading:
    """How a file stood when it was last read: its digest, by language and day, and the pulls that recorded it."""

    language: str
    day: str
    digest: bytes
    pulls: Mapping[str, int]
    """relation -> the pull that recorded it"""
    skipped: Mapping[str, Sequence[str]]
    """relation -> the notes on what was left out"""


def find_reading(ledger: Ledger, source: str) -> FileReading | None:
    """Return what is remembered of a file, of those relations alone that no other pull has recorded since."""
    with telling(ledger.path):
        sql = "SELECT language, day, digest, pulls, skipped FROM file_readings WHERE source = ?"
        found = ledger.db.execute(sql, [source]).fetchone()
        newest = "SELECT relation, max(id) FROM pulls WHERE source = ? GROUP BY relation"
        last = dict(ledger.db.execute(newest, [source]).fetchall())
    if found is None:
        return None
    try:
        language, day, digest = found[:3]
        pulls, skipped = json.loads(found[3]), json.loads(found[4])
    except (ValueError, TypeError) as error:
        raise LedgerError(f"{ledger.path} is damaged: file_readings, row {source}: {error}; {RESTORE}") from error
    standing = {relation: pull for relation, pull in pulls.items() if last.get(relation) == pull}
    return FileReading(language, day, digest, standing, skipped)


def record_reading(ledger: Ledger, source: str, reading: FileReading) -> None:
    """Remember how a file stands, in place of how it stood."""
    with ledger.writing() as db:
        values = (json.dumps(dict(reading.pulls)), json.dumps(dict(reading.skipped), ensure_ascii=False))
        db.execute(
            "INSERT OR REPLACE INTO file_readings (source, language, day, digest, pulls, skipped) VALUES (?,?,?,?,?,?)",
            (source, reading.language, reading.day, reading.digest, *values),
        )


KEPT = datetime.timedelta(days=1)
"""How long a page counts as what the endpoint would say."""


def page_key(source: str, query: str) -> str:
    """Return the key of the answer of `source` to `query`."""
    return content_id("page1", [source, query])


def find_page(ledger: Ledger, key: str) -> bytes | None:
    """Return the answer that was kept under `key`; None where there is none, or it has expired."""
    with telling(ledger.path):
        found = ledger.db.execute("SELECT body FROM pages WHERE key = ? AND time > ?", [key, _oldest()]).fetchone()
    return None if found is None else zlib.decompress(found[0])


def keep_page(ledger: Ledger, key: str, body: bytes) -> None:
    """Keep an answer."""
    with ledger.writing() as db:
        values = (key, now(), zlib.compress(body, 1))
        db.execute("INSERT OR REPLACE INTO pages (key, time, body) VALUES (?, ?, ?)", values)


def drop_expired(ledger: Ledger) -> None:
    """Drop the answers of which none can be found any more."""
    with ledger.writing() as db:
        db.execute("DELETE FROM pages WHERE time <= ?", [_oldest()])


def drop_pages(ledger: Ledger, keys: Collection[str]) -> None:
    """Drop the answers kept under `keys`."""
    with ledger.writing() as db:
        db.conn.executemany("DELETE FROM pages WHERE key = ?", [(key,) for key in keys])


def _oldest() -> str:
    return iso(datetime.datetime.now(datetime.UTC) - KEPT)
