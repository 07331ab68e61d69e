"""Recording a pull: what a source states is compared with what is on record, and written, all of it or nothing.

What was read goes into tables of the connection's own, which SQLite keeps on disk, and is compared there, so that
memory does not grow with the source:

    temp.read      the facts in the order read, and what becomes of each: `fate`, and `row`, its row in `facts`
    temp.gone      rows of facts that the source no longer states
    temp.asked     the keys and normalised labels of subjects that were asked for by name
    temp.nameless  facts that stand, though a label is missing
"""

import datetime
import marshal
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from tempfile import SpooledTemporaryFile
from weakref import finalize

from kbsync.facts import Entity, Fact, Skipped, normalise_label
from kbsync.files import MEGABYTE, writing
from kbsync.ledger.db import Database, insert, iso, now, telling
from kbsync.ledger.decoding import compact, objects_json, wording_json
from kbsync.ledger.rows import Change, FactRow, PullCounts, SkippedRow, Withdraw
from kbsync.ledger.store import Ledger

OUTSIDE = "outside the scope"
"""what the reason of a `Skipped` begins with that the source states of a subject which a narrowed pull left out"""

_STAGE = """
DROP TABLE IF EXISTS temp.read; DROP TABLE IF EXISTS temp.gone; DROP TABLE IF EXISTS temp.asked;
DROP TABLE IF EXISTS temp.nameless;
CREATE TEMP TABLE read (
    place INTEGER PRIMARY KEY, subject_key TEXT, object_key TEXT, subject_label TEXT, subject_id TEXT,
    object_label TEXT, object_id TEXT, rank TEXT, since TEXT, wording TEXT, subject_name TEXT, row INTEGER, fate TEXT,
    UNIQUE (subject_key, object_key)
);
CREATE TEMP TABLE gone (row INTEGER PRIMARY KEY, subject_key TEXT, nth INTEGER);
CREATE TEMP TABLE asked (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE nameless (subject_key TEXT, object_key TEXT, PRIMARY KEY (subject_key, object_key)) WITHOUT ROWID;
"""
_READ = (
    "subject_key, object_key, subject_label, subject_id, object_label, object_id, rank, since, wording, subject_name"
)
_WORDING = 8
# Of the pull's source and relation; the statements below take these, and the `pull`.
_STANDS = "facts.source = :source AND facts.relation = :relation AND facts.withdrawn IS NULL"
_NOT_READ = "facts.subject_key NOT IN (SELECT subject_key FROM temp.read)"
_OTHERS = """subject_key NOT IN (SELECT subject_key FROM temp.read)
    AND subject_key NOT IN (SELECT name FROM temp.asked)"""
_LAST_PULL = "(SELECT max(id) FROM main.pulls WHERE source = :source AND relation = :relation AND id < :pull)"

_KEEP_NAMELESS = f"""INSERT OR IGNORE INTO temp.read ({_READ}) SELECT {_READ} FROM main.facts AS facts
    WHERE {_STANDS} AND (subject_key, object_key) IN temp.nameless ORDER BY id"""
_WITHDRAW_ALL = f"""INSERT INTO temp.gone SELECT id, subject_key, 0 FROM main.facts AS facts
    WHERE {_STANDS} AND {_NOT_READ}"""
_WITHDRAW_ASKED = f"{_WITHDRAW_ALL} AND (subject_key IN temp.asked OR subject_name IN temp.asked)"
_COMPARE = (
    f"""UPDATE temp.read SET row = facts.id, fate = iif(
        (facts.subject_label, facts.object_label) = (read.subject_label, read.object_label), 'unchanged', 'relabelled')
    FROM main.facts AS facts
    WHERE {_STANDS} AND facts.subject_key = read.subject_key AND facts.object_key = read.object_key""",
    f"""INSERT INTO temp.gone
    SELECT id, subject_key, row_number() OVER (PARTITION BY subject_key ORDER BY id) FROM main.facts AS facts
    WHERE {_STANDS} AND subject_key IN (SELECT subject_key FROM temp.read) AND NOT EXISTS (
        SELECT 1 FROM temp.read WHERE read.subject_key = facts.subject_key AND read.object_key = facts.object_key)""",
    # An old object and a new one of the same subject that are both left over are one change.
    """UPDATE temp.read SET row = gone.row, fate = 'changed'
    FROM (
        SELECT place, subject_key, row_number() OVER (PARTITION BY subject_key ORDER BY place) AS nth FROM temp.read
        WHERE fate IS NULL AND subject_key IN (SELECT subject_key FROM temp.gone)
    ) AS fresh JOIN temp.gone USING (subject_key, nth)
    WHERE read.place = fresh.place""",
    "DELETE FROM temp.gone WHERE row IN (SELECT row FROM temp.read WHERE fate = 'changed')",
    """UPDATE temp.read SET row = (
        SELECT max(id) FROM main.facts AS facts
        WHERE source = :source AND relation = :relation AND withdrawn IS NOT NULL
        AND facts.subject_key = read.subject_key AND facts.object_key = read.object_key)
    WHERE fate IS NULL""",
    "UPDATE temp.read SET fate = iif(row IS NULL, 'new', 'revived') WHERE fate IS NULL",
)
_WRITE = (
    """INSERT INTO main.fact_history (fact, object_key, object_label, object_id, rank, since, subject_label, ended,
        ended_by, restated_by)
    SELECT facts.id, facts.object_key, facts.object_label, facts.object_id, facts.rank, facts.since,
        facts.subject_label, iif(fate = 'revived', 'withdrawn', fate), ifnull(facts.withdrawn, :pull),
        iif(fate = 'revived', :pull, NULL)
    FROM temp.read CROSS JOIN main.facts AS facts ON facts.id = read.row
    WHERE fate IN ('changed', 'relabelled', 'revived') ORDER BY place""",
    # Those that are unchanged are most, and keep their places in the indexes.
    """UPDATE main.facts SET rank = read.rank, since = read.since, wording = read.wording, last_seen = :pull
    FROM temp.read WHERE facts.id = read.row""",
    """UPDATE main.facts SET object_key = read.object_key, object_label = read.object_label,
        object_id = read.object_id, subject_label = read.subject_label, subject_id = read.subject_id,
        subject_name = read.subject_name, withdrawn = NULL
    FROM temp.read WHERE facts.id = read.row AND read.fate <> 'unchanged'""",
    "UPDATE main.facts SET withdrawn = :pull WHERE id IN (SELECT row FROM temp.gone)",
    f"""INSERT INTO main.facts ({_READ}, source, relation, first_seen, last_seen)
    SELECT {_READ}, :source, :relation, :pull, :pull FROM temp.read WHERE fate = 'new' ORDER BY place""",
)
# What is on record of all subjects but those read and asked for is seen as it is, where a pull says so.
_SEE_REST = (
    f"UPDATE main.facts SET last_seen = :pull WHERE {_STANDS} AND {_OTHERS}",
    f"""INSERT INTO main.conflicts (pull, relation, subject_key, subject, objects, resolution)
    SELECT :pull, relation, subject_key, subject, objects, resolution FROM main.conflicts
    WHERE pull = {_LAST_PULL} AND {_OTHERS} ORDER BY id""",
    f"""UPDATE main.skipped SET last_seen = :pull
    WHERE source = :source AND relation = :relation AND last_seen = {_LAST_PULL} AND {_OTHERS}""",
)

_NEWS = ("new", "changed", "withdrawn", "relabelled")
_OF_LAST = "source = :source AND relation = :relation AND last_seen"
_LEFT_OUT = f"""SELECT count(*) FROM skipped WHERE {_OF_LAST} =
    (SELECT max(id) FROM pulls WHERE source = :source AND relation = :relation)"""
_RESTATED = """SELECT EXISTS (
    SELECT 1 FROM temp.read JOIN main.facts AS facts ON facts.id = read.row
    WHERE (facts.rank, facts.since, facts.wording) IS NOT (read.rank, read.since, read.wording))"""
# What was left out is the same where nothing came in (or back) and nothing stayed behind.
_REPEATS = f"""SELECT earlier.id FROM pulls AS earlier JOIN pulls AS this ON this.id = :pull
    WHERE earlier.id = {_LAST_PULL} AND (earlier.scope, earlier.as_of) IS (this.scope, this.as_of)
    AND NOT EXISTS (SELECT 1 FROM skipped WHERE {_OF_LAST} = earlier.id)
    AND (SELECT count(*) FROM skipped WHERE {_OF_LAST} = :pull) = :left_out
    AND NOT EXISTS (SELECT 1 FROM skipped WHERE {_OF_LAST} = :pull AND first_seen = :pull)"""


@dataclass(frozen=True, slots=True)
class NewPull:
    """One reading of a source for a relation, about to be recorded."""

    source: str
    relation: str
    started: datetime.datetime
    query: str | None = None
    withdraw: Withdraw = "all"
    """which further subjects were asked for, so that facts of theirs that are missing are withdrawn: all, none, or
    those with these keys or normalised labels"""
    rest_unchanged: bool = False
    """`withdraw` names all subjects that were read, as those that changed: all else was seen as it is on record"""
    as_of: datetime.date | None = None
    """the day that was asked about; None: that of the pull"""
    scope: Mapping[str, object] | None = None
    """what narrowed it"""
    nameless: Collection[tuple[str, str]] = ()
    """(subject key, object key) of facts that stand as they are on record, though a label is missing now"""
    skipped: Collection[Skipped] = ()
    """what was left out"""


class Staged:
    """Facts that were read and are not recorded yet: on disk where they are many, and to be gone through again."""

    def __init__(self, relation: str, facts: Iterable[Fact], home: Path) -> None:
        """Take `facts` of `relation`; their file has no name and lies by `home`. Raises WriteError."""
        folder = next(place for place in (home, *home.absolute().parents) if place.is_dir())
        self._file = SpooledTemporaryFile(MEGABYTE, dir=str(folder))  # noqa: SIM115
        finalize(self, self._file.close)
        self.relation = relation
        self.count = 0
        self.worded = 0
        """those that have a wording of their own"""
        values = (_values(fact, relation) for fact in facts)
        with writing(folder):
            while part := list(islice(values, 1000)):
                marshal.dump(part, self._file)
                self.count += len(part)
                self.worded += sum(row[_WORDING] is not None for row in part)

    def rows(self) -> Iterator[Sequence[str | None]]:
        """Yield the values of temp.read, of one fact after the other."""
        self._file.seek(0)
        for _ in range(0, self.count, 1000):
            yield from marshal.load(self._file)


def record_pull(ledger: Ledger, pull: NewPull, facts: Staged | Iterable[Fact]) -> PullCounts:
    """Record one reading, all of it or (on an error) none; `facts` holds every object of each subject that was read.

    Several pulls inside one `Ledger.writing` block are recorded together or not at all.
    """
    about: dict[str, object] = {"source": pull.source, "relation": pull.relation}
    told = {"query": pull.query, "as_of": pull.as_of and pull.as_of.isoformat(), "started": iso(pull.started)}
    told["scope"] = compact(pull.scope) if pull.scope else None
    with ledger.writing() as db:
        standing = db.execute(f"SELECT count(*) FROM facts WHERE {_STANDS}", about).fetchone()[0]
        left_out = db.execute(_LEFT_OUT, about).fetchone()[0]
        _stage(db, pull.relation, facts)
        db.conn.executemany("INSERT INTO temp.nameless VALUES (?, ?)", pull.nameless)
        if not isinstance(pull.withdraw, str):
            db.conn.executemany("INSERT INTO temp.asked VALUES (?)", ((name,) for name in pull.withdraw))
        for statement in (_KEEP_NAMELESS, *_COMPARE):
            db.execute(statement, about)
        if pull.withdraw != "none":
            db.execute(_WITHDRAW_ALL if pull.withdraw == "all" else _WITHDRAW_ASKED, about)
        counts = _counts(db)
        restated = db.execute(_RESTATED).fetchone()[0]
        key = about["pull"] = insert(db, "pulls", {**about, **told, "finished": now(), **counts})
        if pull.rest_unchanged:
            facts_seen, conflicts_seen, _ = (db.execute(statement, about).rowcount for statement in _SEE_REST)
            counts["unchanged"] += facts_seen
            counts["conflicting"] += conflicts_seen
            db.table("pulls").update(key, counts)
        for statement in _WRITE:
            db.execute(statement, about)
        db.conn.executemany(
            "INSERT INTO conflicts (pull, relation, subject_key, subject, objects, resolution) VALUES (?,?,?,?,?,?)",
            ((key, pull.relation, *contested, "kept out") for contested in _contested(db)),
        )
        db.conn.executemany(
            """INSERT INTO skipped (source, relation, subject_key, subject_label, object, reason, first_seen, last_seen)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
            SET last_seen = excluded.last_seen, subject_label = excluded.subject_label""",
            (
                (pull.source, pull.relation, one.subject_key, one.subject_label, one.object, one.reason, key, key)
                for one in pull.skipped
            ),
        )
        same = not restated and not any(counts[name] for name in _NEWS)
        repeats = db.execute(_REPEATS, {**about, "left_out": left_out}).fetchone() if same else None
    return PullCounts(pull=key, standing=standing, repeats=repeats and repeats[0], **counts)


def unread(ledger: Ledger, source: str, facts: Staged) -> list[FactRow]:
    """Return the facts on record that stand, and of whose subject `facts` holds none."""
    with telling(ledger.path):
        _stage(ledger.db, facts.relation, facts)
    which = f"WHERE source = ? AND relation = ? AND withdrawn IS NULL AND {_NOT_READ} ORDER BY id"
    return ledger.select(FactRow, "facts", which, source, facts.relation)


def _stage(db: Database, relation: str, facts: Staged | Iterable[Fact]) -> None:
    """Put `facts` into temp.read; of a statement given twice the first counts."""
    for statement in _STAGE.split(";"):  # executescript would commit
        db.execute(statement)
    sql = f"INSERT OR IGNORE INTO temp.read ({_READ}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    rows = facts.rows() if isinstance(facts, Staged) else (_values(fact, relation) for fact in facts)
    db.conn.executemany(sql, rows)


def _values(fact: Fact, relation: str) -> tuple[str | None, ...]:
    if fact.relation != relation:
        raise ValueError(f"a pull of {relation} was given a fact of {fact.relation}")
    subject, thing = fact.subject, fact.object
    named = (subject.key, thing.key, subject.label, subject.id, thing.label, thing.id)
    return (*named, fact.rank, fact.since, wording_json(fact.wording), normalise_label(subject.label))


def _counts(db: Database) -> dict[str, int]:
    fates = dict(db.execute("SELECT fate, count(*) FROM temp.read GROUP BY fate").fetchall())
    several = "SELECT count(*) FROM (SELECT 1 FROM temp.read GROUP BY subject_key HAVING count(*) > 1)"
    return {
        "new": fates.get("new", 0) + fates.get("revived", 0),
        "changed": fates.get("changed", 0),
        "withdrawn": db.execute("SELECT count(*) FROM temp.gone").fetchone()[0],
        "relabelled": fates.get("relabelled", 0),
        "unchanged": fates.get("unchanged", 0),
        "conflicting": db.execute(several).fetchone()[0],
    }


def _contested(db: Database) -> Iterator[tuple[str, str, str]]:
    """Yield key, label and objects (as JSON) of each subject that was read with several objects."""
    rows = db.execute(
        """SELECT subject_key, subject_label, object_label, object_id FROM temp.read
        WHERE subject_key IN (SELECT subject_key FROM temp.read GROUP BY subject_key HAVING count(*) > 1)
        ORDER BY min(place) OVER (PARTITION BY subject_key), place"""
    )
    for key, group in groupby(rows, key=lambda row: str(row[0])):
        objects = list(group)
        yield key, objects[0][1], objects_json([Entity(*thing[2:]) for thing in objects])


_NEWEST = """last_seen = (SELECT max(pulls.id) FROM pulls
    WHERE pulls.source = skipped.source AND pulls.relation = skipped.relation)"""


def skipped_about(ledger: Ledger, name: str, relation: str | None = None) -> list[SkippedRow]:
    """Return what pulls ever left out of the subject with this id or label, of one relation or of all (None)."""
    which = """WHERE relation = ifnull(?3, relation) AND (subject_key IN (?1, ?2) OR subject_label = ?1 COLLATE NOCASE)
        ORDER BY first_seen, relation, object, reason"""
    return ledger.select(SkippedRow, "skipped", which, " ".join(name.split()), normalise_label(name), relation)


def skipped_counts(ledger: Ledger) -> list[tuple[str, str, int]]:
    """Return relation, reason and number of what the newest pull of each source and relation left out."""
    sql = f"""SELECT relation, reason, count(*) FROM skipped WHERE {_NEWEST}
        GROUP BY relation, reason ORDER BY relation, count(*) DESC, reason"""
    return ledger.query(sql)


_OF_PULL = "facts.source = :source AND facts.relation = :relation"
_CHANGES = {
    "+": f"""SELECT '+', subject_label, relation, NULL, object_label, '' FROM facts
        WHERE {_OF_PULL} AND (first_seen = :pull
            OR id IN (SELECT fact FROM fact_history WHERE restated_by = :pull AND fact = facts.id))
        ORDER BY id""",
    "~": f"""SELECT '~', facts.subject_label, relation, past.object_label, facts.object_label, '' FROM facts
        CROSS JOIN fact_history AS past ON past.fact = facts.id
        WHERE {_OF_PULL} AND past.ended_by = :pull AND past.ended = 'changed' ORDER BY past.id""",
    "-": f"""SELECT '-', subject_label, relation, object_label, NULL, CASE
            WHEN (SELECT scope FROM pulls WHERE id = :pull) IS NULL THEN ''
            WHEN EXISTS (SELECT 1 FROM skipped WHERE source = :source AND skipped.relation = :relation
                AND last_seen = :pull AND skipped.subject_key = facts.subject_key
                AND skipped.object = facts.object_label AND reason LIKE '{OUTSIDE}%') THEN 'outside the scope now'
            ELSE 'gone from the source' END
        FROM facts WHERE {_OF_PULL} AND withdrawn = :pull ORDER BY id""",
    "=": f"""SELECT '=', facts.subject_label, relation, past.object_label, facts.object_label,
            iif(past.subject_label <> facts.subject_label, 'relabelled: the subject was ' || past.subject_label,
                'relabelled')
        FROM facts CROSS JOIN fact_history AS past ON past.fact = facts.id
        WHERE {_OF_PULL} AND past.ended_by = :pull AND past.ended = 'relabelled' ORDER BY past.id""",
}


def changes(ledger: Ledger, pull: int, signs: Iterable[str] = _CHANGES) -> Iterator[Change]:
    """Yield the diff of the newest pull of a source and relation, by sign; labels are those on record now."""
    with telling(ledger.path):
        source, relation = ledger.db.execute("SELECT source, relation FROM pulls WHERE id = ?", [pull]).fetchone()
        about = {"source": source, "relation": relation, "pull": pull}
        for sign in signs:
            yield from (Change(*row) for row in ledger.db.execute(_CHANGES[sign], about))
