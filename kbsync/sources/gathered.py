"""Facts of one relation as a source gives them: each once, in the order of their labels, on disk where they are many.

Whether a source has a thousand facts or ten million, `MOST` of them lie in memory. The rest lies in a database of
SQLite's own that has no name and goes with the object; SQLite sorts it on disk, too.
"""

import marshal
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from weakref import finalize

from kbsync.facts import Entity, Fact, Wording
from kbsync.files import TEMPORARY, writing

MOST = 20_000
"""facts that lie in memory"""

_TABLE = """CREATE TABLE read (subject_key, object_key, subject, subject_id, relation, object, object_id, rank, since,
    wording)"""
_PUT = "INSERT INTO read VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SORTED = """SELECT subject, subject_id, relation, object, object_id, rank, since, wording FROM (
        SELECT *, row_number() OVER (PARTITION BY subject_key, object_key ORDER BY ifnull(since, '') DESC, rowid DESC)
        AS nth FROM read
    ) WHERE nth = 1 ORDER BY subject, ifnull(subject_id, ''), object, ifnull(object_id, '')"""
_COUNT = "SELECT count(*) FROM (SELECT DISTINCT subject_key, object_key FROM read)"


class Gathered(Collection[Fact]):
    """Of facts that say the same the one with the latest start. Raises WriteError where the disk is full."""

    def __init__(self, facts: Iterable[Fact] = ()) -> None:
        self._held: dict[tuple[str, str], Fact] = {}
        self._rest: sqlite3.Connection | None = None
        self.add(facts)

    def add(self, facts: Iterable[Fact]) -> None:
        """Take more facts."""
        for fact in facts:
            key = fact.subject.key, fact.object.key
            same = self._held.get(key)
            if same is None or (same.since or "") <= (fact.since or ""):
                self._held[key] = fact
            if len(self._held) > MOST:
                self._put()

    def __iter__(self) -> Iterator[Fact]:
        if self._rest is None:
            yield from sorted(self._held.values(), key=_by_label)
            return
        self._put()
        with writing(TEMPORARY, sqlite3.Error):
            for subject, subject_id, relation, thing, thing_id, rank, since, wording in self._rest.execute(_SORTED):
                told = None if wording is None else Wording(*marshal.loads(wording))
                yield Fact(Entity(subject, subject_id), relation, Entity(thing, thing_id), rank, since, told)

    def __len__(self) -> int:
        if self._rest is None:
            return len(self._held)
        self._put()
        with writing(TEMPORARY, sqlite3.Error):
            return int(self._rest.execute(_COUNT).fetchone()[0])

    def __bool__(self) -> bool:
        return bool(self._held) or self._rest is not None

    def __contains__(self, fact: object) -> bool:
        return any(one == fact for one in self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Collection) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def _put(self) -> None:
        """Move what is held to the disk."""
        with writing(TEMPORARY, sqlite3.Error):
            if self._rest is None:
                self._rest = sqlite3.connect("", isolation_level=None)
                finalize(self, self._rest.close)
                self._rest.execute("PRAGMA journal_mode = off")  # of an error nothing is kept
                self._rest.execute(_TABLE)
            self._rest.execute("BEGIN")
            self._rest.executemany(_PUT, ((*key, *_values(fact)) for key, fact in self._held.items()))
            self._rest.execute("COMMIT")
        self._held.clear()


def _values(fact: Fact) -> tuple[object, ...]:
    told, subject, thing = fact.wording, fact.subject, fact.object
    wording = told and marshal.dumps((told.prompt, told.paraphrases, told.question, told.wordings))
    return (subject.label, subject.id, fact.relation, thing.label, thing.id, fact.rank, fact.since, wording)


def _by_label(fact: Fact) -> tuple[str, str, str, str]:
    return (fact.subject.label, fact.subject.id or "", fact.object.label, fact.object.id or "")
