"""What files that list facts share (YAML, tables, data sets): problems in one error, and the facts asked for.

A data set of edits (CounterFact, zsRE and others) lists facts in words of their own: subject, relation and new object,
with the record's prompt and paraphrases in place of the relation's template. zsRE and KnowEdit name no relation: all
their facts are of ``zsRE`` or ``KnowEdit``, so that two records on one subject with different objects are a conflict.

Facts of one relation as a source gives them: each once, in the order of their labels, on disk where they are many.

Whether a source has a thousand facts or ten million, `MOST` of them lie in memory. The rest lies in a database of
SQLite's own that has no name and goes with the object; SQLite sorts it on disk, too.
"""

import datetime
import marshal
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import AnyStr
from weakref import finalize

from kbsync.datasets import DataSet, open_dataset
from kbsync.errors import SettingsError, SourceError
from kbsync.facts import Entity, Fact, Wording, normalise_label
from kbsync.files import TEMPORARY, Unchanged, writing
from kbsync.shapes import iri_of, short_id
from kbsync.sources.base import Ask, Counted, Notes, Reading, clean, short_enough, shown

MOST = 20_000  # facts that lie in memory

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
        for fact in facts:
            key = fact.subject.key, fact.object.key
            same = self._held.get(key)
            if same is None or (same.since or "") <= (fact.since or ""):
                self._held[key] = fact
            if len(self._held) > MOST:
                self._put()

    def __iter__(self) -> Iterator[Fact]:
        if self._rest is None:
            yield from sorted(
                self._held.values(),
                key=lambda f: (f.subject.label, f.subject.id or "", f.object.label, f.object.id or ""),
            )
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


SHOWN = 20  # problems told in full
MOST_RELATIONS = 100_000  # that are counted
NO_LINE_END = "last line without a line end, as in a file that was cut off"


@dataclass(slots=True)
class Problems:
    """Problems of one file, each with its line and, where known, its column; both count from 1."""

    path: Path | str
    count: int = 0
    found: list[tuple[int, int, str]] = field(default_factory=list)

    def add(self, line: int, message: str, column: int = 0) -> None:
        """Note a problem; column 0 is none."""
        self.count += 1
        if self.count <= 100 * SHOWN:
            self.found.append((line, column, shown(message)))

    def raise_any(self) -> None:
        """Raise SourceError with the first `SHOWN` in the order of the file, and the number of others, if any."""
        if not self.found:
            return
        told = [
            f"{self.path}:{line}:{column}: {message}" if column else f"{self.path}:{line}: {message}"
            for line, column, message in sorted(self.found)[:SHOWN]
        ]
        if self.count > SHOWN:
            told.append(f"and {self.count - SHOWN} more")
        raise SourceError("\n".join(told))


def check_ask(ask: Ask, path: Path | str, kind: str) -> None:
    """Raise SettingsError where `ask` asks for what such a file does not have; `kind` says what file it is."""
    for option, value in (("--class", ask.class_id), ("--min-sitelinks", ask.min_sitelinks)):
        if value is not None:
            raise SettingsError(f"{option} does not go with {path}: {kind} has no classes or sitelinks")


def chosen(facts: Iterable[Fact], ask: Ask, notes: Notes) -> Gathered:
    """Return those of a file's facts that `ask` asks for; what is left out is noted.

    Where it has none of the relation, a note tells which relations it has. A limit takes the first subjects.
    """
    return Gathered(_chosen(facts, ask, notes))


def _chosen(facts: Iterable[Fact], ask: Ask, notes: Notes) -> Iterator[Fact]:
    wanted: dict[str, str] = {}
    for name in ask.subjects or ():
        wanted |= {short_id(iri_of(name) or name): name, normalise_label(name): name}
    other_relations, found, taken = dict[str, None](), set[str](), set[str]()
    has_relation = False
    for fact in facts:
        subject, thing = fact.subject, fact.object
        if fact.relation != ask.relation:
            other_relations[fact.relation] = None
            continue
        has_relation = True
        if ask.subjects is not None:
            named = {wanted[key] for key in (subject.id, normalise_label(subject.label)) if key in wanted}
            found |= named
            if not named:
                continue
        if fact.since is not None and fact.since > ask.day.isoformat():
            notes.add(f"begins after {ask.day}", subject.label, subject, thing.id or thing.label)
        elif short_enough(subject, thing, notes):
            if ask.limit is None:
                yield fact
            elif len(taken) < ask.limit or subject.key in taken:
                taken.add(subject.key)
                yield fact
    for relation in other_relations if not has_relation else ():
        notes.add("facts of other relations only", relation)
    for name in ask.subjects or ():
        if name not in found:
            notes.add(f"subject asked for that has no {ask.relation} here", name)


def counted(
    statements: Iterable[tuple[AnyStr, AnyStr, AnyStr]],
) -> list[tuple[AnyStr, tuple[int, AnyStr, AnyStr]]]:
    """Return each relation of `statements` (relation, subject, object) with their number and the first, most first."""
    found: dict[AnyStr, tuple[int, AnyStr, AnyStr]] = {}
    for relation, subject, thing in statements:
        if relation in found:
            count, one, other = found[relation]
            found[relation] = (count + 1, one, other)
        elif len(found) < MOST_RELATIONS:
            found[relation] = (1, subject, thing)
    return sorted(found.items(), key=lambda pair: (-pair[1][0], pair[0]))


def is_day(text: str) -> bool:
    try:
        return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) and datetime.date.fromisoformat(text))
    except ValueError:
        return False


def fact_of(values: dict[str, str]) -> Fact:
    """Return the fact that a file's fields give: subject, relation, object; subject_id, object_id, since."""

    def entity(role: str) -> Entity:
        identifier = values.get(f"{role}_id")
        return Entity(values[role], short_id(identifier) if identifier else None)

    return Fact(entity("subject"), values["relation"], entity("object"), since=values.get("since"))


class DataSetFile:
    """A data set's file, gone through at each reading; of its records only the facts asked for are held."""

    def __init__(self, path: Path) -> None:
        self._path, self._state, self.name = path, Unchanged(path), str(path.resolve())

    def read(self, ask: Ask) -> Reading:
        """Read `ask`'s facts; raises DataSetError with the bad records, and SettingsError for --class."""
        check_ask(ask, self._path, "a data set")
        notes = Notes()
        with self._state.reading():
            data = open_dataset(self._path)
            facts = chosen(_facts(data), ask, notes)
        more = [f"prompt that does not name its subject: {data.unplaced}"] if data.unplaced else []
        return notes.reading(self.name, None, facts, more=more)

    def predicates(self) -> Counted:
        with self._state.reading():
            facts = _facts(open_dataset(self._path))
            return counted((fact.relation, fact.subject.label, fact.object.label) for fact in facts)


def _facts(data: DataSet) -> Iterator[Fact]:
    for record in data:
        request = record.request
        subject, thing = clean(request.subject), clean(request.target)
        if subject and thing:
            yield Fact(
                Entity(subject), request.relation, Entity(thing), wording=Wording(request.prompt, request.paraphrases)
            )
