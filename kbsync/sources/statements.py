"""From statements to facts: what is current, what has labels, and what is left out with a note.

A statement is current on a day if it has begun by that day (P580), has not ended by it (P582), and no other such
statement of its subject has a better rank; deprecated ones never are. Ended ones go first, so that a former object
that somebody left on preferred rank does not hide the present one. A date is as precise as it says: one of a year is
all of that year, so a statement that ends in 2026 stands until the year is over.

Entities and text are objects: plain strings, and of a subject's monolingual texts those in the best language that is
asked for. Dates, quantities and coordinates are not: their plain value has neither precision nor unit, so that it
cannot be put into words truly (Wikidata writes the year 1889 as 1 January 1889).
"""

import datetime
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from kbsync.errors import SourceError
from kbsync.facts import Entity, Fact
from kbsync.shapes import iri_of, short_id, short_name
from kbsync.sources import queries
from kbsync.sources.base import MOST_LETTERS, Aliases, Ask, Notes, clean, short_enough, shown
from kbsync.sources.file_facts import Gathered
from kbsync.sources.paging import BATCH, Rows
from kbsync.sources.results import Row, Term

_T = TypeVar("_T")

MOST_NAMES = 100_000  # objects whose names are remembered, as many subjects have the same ones


_RANKS = {
    "http://wikiba.se/ontology#PreferredRank": "preferred",
    "http://wikiba.se/ontology#NormalRank": "normal",
    "http://wikiba.se/ontology#DeprecatedRank": "deprecated",
}
_DATE = re.compile(r"([+-]?)(\d{4,15})(?:-(\d\d)(?:-(\d\d))?)?(?!\d)")
_DAY, _MONTH, _YEAR, _DECADE, _CENTURY, _MILLENNIUM = 11, 10, 9, 8, 7, 6  # wikibase:timePrecision
_UNKNOWN = "/.well-known/genid/"  # how Wikidata's query service writes "unknown value"
_XSD = "http://www.w3.org/2001/XMLSchema#"
_KINDS = {
    **dict.fromkeys((f"{_XSD}{name}" for name in ("dateTime", "date", "gYear", "gYearMonth")), "date"),
    **dict.fromkeys((f"{_XSD}{name}" for name in ("decimal", "integer", "double", "float")), "quantity"),
    "http://www.opengis.net/ont/geosparql#wktLiteral": "coordinates",
}

_Day = tuple[int, int, int]
"""year (0 is 1 BCE), month, day"""


@dataclass(frozen=True, slots=True)
class Statement:
    """A subject's object (None: "no value") with its rank and the first day on which it may have begun, in ISO form."""

    subject: str
    object: Term | None
    rank: str
    since: str | None


def read_facts(
    rows: Rows,
    ask: Ask,
    *,
    ordered: bool = True,
    own: Callable[[dict[str, Entity | None]], Iterator[Row]] | None = None,
) -> tuple[Gathered, Notes]:
    """Return the current facts that `ask` asks for, and the notes on what was left out.

    With a limit, `ordered` says whether the subjects taken are the first by IRI, or any that the source likes.
    `own` gives statements of a query of the user's own in place of those of the relation, and puts the entities that
    they name with labels into a mapping by IRI. Raises SourceError where there are no sitelinks to choose by.
    """
    notes = Notes()
    things: dict[str, Entity | None] = {}
    facts = Gathered()
    wanted = ask.limit
    batches: Iterator[list[Row]]
    if own is None:
        chosen = _batches(_choose_subjects(rows, ask, notes, ordered))
        batches = (_about(rows, batch, lambda iris: queries.statements(ask, iris), "subject") for batch in chosen)
    else:
        batches = _batches(own(things))
    for said in batches:
        pairs = list(_usable(list(_current(said, ask.day, notes)), ask, notes))
        mentioned = dict.fromkeys(
            iri for statement, value in pairs for iri in (statement.subject, value.value if value.kind == "iri" else "")
        )
        things |= _read_entities(rows, ask, [iri for iri in mentioned if iri and iri not in things])
        notes.nameless |= {
            (short_id(statement.subject), short_id(value.value))
            for statement, value in pairs
            if value.kind == "iri" and not (things[statement.subject] and things[value.value])
        }
        by_subject: dict[str, list[Fact]] = defaultdict(list)
        for fact in _label(pairs, ask, things, notes):
            by_subject[fact.subject.key].append(fact)
        groups = list(by_subject.values())[:wanted]
        facts.add(itertools.chain.from_iterable(groups))
        for row in said if own is None else ():  # whose subjects come once
            things.pop(row["subject"].value, None)
        if len(things) > MOST_NAMES:
            things.clear()
        if wanted is not None:
            wanted -= len(groups)
            if wanted == 0:
                break
    if not facts and ask.min_sitelinks is not None:
        any_number, none = (queries.subjects(replace(ask, min_sitelinks=least)).text(1) for least in (0, None))
        if not rows.select(any_number) and rows.select(none):
            raise SourceError(
                "has no number of sitelinks (wikibase:sitelinks), so --min-sitelinks cannot choose; narrow the pull "
                "with --class, --subjects or --limit"
            )
    return facts, notes


def _about(rows: Rows, iris: Sequence[str], query: Callable[[Sequence[str]], queries.Query], name: str) -> list[Row]:
    """Return all rows of `query` over `iris`; raises SourceError for a row whose `name` is none of them."""
    found = rows.about(iris, query)
    asked = set(iris)
    for row in found:
        if row[name].value not in asked:
            raise SourceError(
                f"mentions {shown(row[name].value, 100)!r}, which was not asked for; check the endpoint",
                query=query(iris[:BATCH]).text(),
            )
    return found


def _choose_subjects(rows: Rows, ask: Ask, notes: Notes, ordered: bool) -> Iterator[str]:
    found: Iterable[Row]
    if ask.subjects is not None:
        found = _find_named(rows, ask, notes)
    elif ask.limit is None:
        found = rows.subjects(ask)
    else:
        found = sorted(rows.select(queries.sample(ask, ordered=ordered)), key=lambda row: row["subject"].value)
    for subject in (row["subject"] for row in found):
        if subject.kind == "iri" and iri_of(f"<{subject.value}>") is None:
            notes.add("subject with a bad IRI", subject.value)
        elif subject.kind == "iri":
            yield subject.value
        else:
            notes.add("subject that is a blank node", f"_:{subject.value}")


def _find_named(rows: Rows, ask: Ask, notes: Notes) -> list[Row]:
    names = ask.subjects or ()
    named = rows.about(names, lambda some: queries.subjects_named(ask, some))
    found = {row["name"].value for row in named}
    part = ", or not the class or sitelinks" if ask.narrowed else ""
    for name in names:
        if (iri_of(name, queries.shape_of(ask).base) or name) not in found:
            notes.add(f"subject asked for that has no {ask.relation} here{part}", name)
    by_iri = {row["subject"].value: row for row in named}
    return [by_iri[iri] for iri in sorted(by_iri)]


def _read_entities(rows: Rows, ask: Ask, iris: Sequence[str]) -> dict[str, Entity | None]:
    """Return each of `iris` with its label, None where it has none; one that redirects is what it redirects to."""
    labels = _read_labels(rows, ask, iris)
    moved: dict[str, set[str]] = defaultdict(set)
    for row in _about(rows, [iri for iri in iris if iri not in labels], queries.kept, "entity"):
        if row["kept"].kind == "iri" and iri_of(f"<{row['kept'].value}>") is not None:
            moved[row["entity"].value].add(row["kept"].value)
    known = labels | _read_labels(rows, ask, sorted(set[str]().union(*moved.values()) - set(iris)))
    found: dict[str, Entity | None] = {}
    for iri in iris:
        targets = [one for one in moved.get(iri, ()) if one in known]
        kept = targets[0] if len(targets) == 1 else iri
        found[iri] = Entity(known[kept], short_id(kept)) if kept in known else None
    return found


def _read_labels(rows: Rows, ask: Ask, iris: Sequence[str]) -> dict[str, str]:
    """Return the best label of each of `iris` that has one: by the property that gives it, then by language."""
    order, properties = queries.label_languages(ask.language), queries.shape_of(ask).labels
    best: dict[str, tuple[int, int, str]] = {}
    for row in _about(rows, iris, lambda some: queries.labels(ask, some), "entity"):
        label, rank = clean(row["label"].value), queries.language_rank(row["label"].language, order)
        if rank is None:
            raise SourceError(
                f"gave a label in {shown(row['label'].language, 40)!r}, which was not asked for; check the endpoint",
                query=queries.labels(ask, iris[:BATCH]).text(),
            )
        if label:
            candidate = (properties.index(row["by"].value) if "by" in row else 0, rank, label)
            best[row["entity"].value] = min(candidate, best.get(row["entity"].value, candidate))
    return {iri: label for iri, (_, _, label) in best.items()}


def read_aliases(rows: Rows, facts: Iterable[Fact], ask: Ask) -> Aliases:
    """Return the aliases of every subject and object of `facts` by key, sorted; None where `ask` wants none."""
    if not ask.aliases:
        return None
    entities = dict.fromkeys(entity for fact in facts for entity in (fact.subject, fact.object))
    found: dict[str, set[str]] = {entity.key: set() for entity in entities}
    iris = dict.fromkeys(iri for entity in entities if (iri := iri_of(entity.key) or iri_of(f"<{entity.key}>")))
    for row in _about(rows, list(iris), lambda some: queries.aliases(ask, some), "entity"):
        alias = clean(row["label"].value)
        if alias and len(alias) <= MOST_LETTERS:
            found[short_id(row["entity"].value)].add(alias)
    return {key: tuple(sorted(names)) for key, names in found.items()}


def _label(
    pairs: Iterable[tuple[Statement, Term]], ask: Ask, things: Mapping[str, Entity | None], notes: Notes
) -> Iterator[Fact]:
    languages = ", ".join(tag for tag in queries.label_languages(ask.language) if tag and "*" not in tag)
    for statement, value in pairs:
        subject = things[statement.subject]
        thing = Entity(clean(value.value)) if value.kind == "literal" else things[value.value]
        if subject is None:
            notes.add(f"subject without a label ({languages})", short_name(statement.subject), *_about_it(statement))
        elif thing is None:
            unnamed = short_name(value.value)
            notes.add(f"object without a label ({languages})", unnamed, subject, short_id(value.value))
        elif short_enough(subject, thing, notes):
            yield Fact(subject, ask.relation, thing, statement.rank, statement.since)


def _batches(names: Iterator[_T]) -> Iterator[list[_T]]:
    while batch := list(itertools.islice(names, BATCH)):
        yield batch


def _current(rows: Iterable[Row], day: datetime.date, notes: Notes) -> Iterator[Statement]:
    """Yield the statements in `rows` that are current on `day`, by subject; why others are not is noted."""
    groups: dict[tuple[Term, Term | None], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["subject"], row.get("statement") or row.get("object")].append(row)
    by_subject: dict[str, list[Statement]] = defaultdict(list)
    for group in groups.values():
        statement, past = _merge(group, day)
        if past:
            notes.add(past, _name(statement), *_about_it(statement))
        else:
            by_subject[statement.subject].append(statement)
    for subject in sorted(by_subject):
        best = "preferred" if any(one.rank == "preferred" for one in by_subject[subject]) else "normal"
        for statement in by_subject[subject]:
            if statement.rank == best:
                yield statement
            else:
                notes.add("statement beside one of preferred rank", _name(statement), *_about_it(statement))


def _about_it(statement: Statement) -> tuple[Entity, str]:
    """The subject, whose label is not read, and the object by its id or text."""
    return Entity("", short_id(statement.subject)), short_id(statement.object.value) if statement.object else ""


def _name(statement: Statement) -> str:
    thing = "no value" if statement.object is None else short_name(statement.object.value)
    return f"{short_name(statement.subject)} -> {thing}"


def _merge(rows: Sequence[Row], day: datetime.date) -> tuple[Statement, str]:
    """Make one statement of its rows (several where a qualifier has several values); and why it is none, or ""."""
    today = (day.year, day.month, day.day)
    starts = [_interval(row["start"], row.get("startPrecision")) for row in rows if "start" in row]
    ends = [_interval(row["end"], row.get("endPrecision")) for row in rows if "end" in row]
    begun = [start for start in starts if start is None or start[0] <= today]
    known = [start[0] for start in begun if start is not None]
    ranked = rows[0].get("rank")
    rank = _RANKS.get(ranked.value, "normal") if ranked else "normal"
    since = None
    if known:
        year, month, first = max(known)
        since = f"{'-' if year < 0 else ''}{abs(year):04}-{month:02}-{first:02}"
    statement = Statement(rows[0]["subject"].value, rows[0].get("object"), rank, since)
    if rank == "deprecated":
        return statement, "statement of deprecated rank"
    if starts and not begun:
        return statement, f"statement that begins after {day}"
    # An end at an unknown time is an end all the same.
    if ends and not any(end is not None and end[1] > today for end in ends):
        return statement, f"statement that has ended by {day}"
    return statement, ""


def _interval(term: Term, precision: Term | None) -> tuple[_Day, _Day] | None:
    """Return the first and the last day that a date may be; None for an unknown time.

    Where `precision` does not say how precise it is, its form does: 2026, 2026-05 or 2026-05-17.
    """
    match = _DATE.match(term.value) if term.kind == "literal" else None
    if not match:
        return None
    sign, *numbers = match.groups()
    year, month, day = (int(number or 0) for number in numbers)
    year = -year if sign == "-" else year
    written = _DAY if month and day else _MONTH if month else _YEAR
    told = int(precision.value) if precision and re.fullmatch(r"\d{1,2}", precision.value, re.ASCII) else written
    if month > 12 or day > 31:
        return None
    if (least := min(told, written)) >= _DAY:
        return (year, month, day), (year, month, day)
    if least == _MONTH:
        return (year, month, 1), (year, month, 31)
    first, last = _years(year, least)
    return (first, 1, 1), (last, 12, 31)


def _years(year: int, precision: int) -> tuple[int, int]:
    """Return the first and last year of the year, decade (2010 to 2019), century (2001 to 2100), ... of `year`."""
    size = 10 ** (_YEAR - precision)
    if precision in (_CENTURY, _MILLENNIUM):
        last = -(-year // size) * size
        return last - size + 1, last
    first = year // size * size
    return first, first + size - 1


def _usable(statements: Iterable[Statement], ask: Ask, notes: Notes) -> Iterator[tuple[Statement, Term]]:
    """Yield the statements, each with its object, whose objects are entities or text in a language that is asked for.

    `statements` are those of one subject after the other. Where the shape says so, numbers, dates and the like are
    text, as they are written.
    """
    languages, literals = queries.label_languages(ask.language), queries.shape_of(ask).literals
    for subject, group in itertools.groupby(statements, lambda statement: statement.subject):
        named = [(statement, value) for statement in group if (value := _named(statement, notes, literals)) is not None]
        texts = {value.language for _, value in named if value.kind == "literal" and value.language}
        ranked = [(rank, tag) for tag in texts if (rank := queries.language_rank(tag, languages)) is not None]
        best = min(ranked)[1] if ranked else None
        for statement, value in named:
            if value.kind == "literal" and value.language and value.language != best:
                if best is None:
                    example = f"{short_name(subject)} -> {value.language}"
                    notes.add("text in another language", example, *_about_it(statement))
            else:
                yield statement, value


def _named(statement: Statement, notes: Notes, literals: bool) -> Term | None:
    """Return the object if it is an entity or text; note why it is not."""
    subject, value = short_name(statement.subject), statement.object
    if value is None:
        notes.add('"no value" stated', subject, *_about_it(statement))
    elif value.kind == "blank" or _UNKNOWN in value.value:
        notes.add("unknown value", subject, _about_it(statement)[0])
    elif value.kind == "iri" and iri_of(f"<{value.value}>") is None:
        notes.add("object with a bad IRI", f"{subject} -> {value.value}", *_about_it(statement))
    elif value.kind == "literal" and ((value.datatype and not literals) or not clean(value.value)):
        kind = _KINDS.get(value.datatype, "literal of another type") if clean(value.value) else "empty text"
        example = f"{subject} -> {value.value[:40]!r}"
        notes.add(f"{kind} in place of an entity", example, *_about_it(statement))
    else:
        return value
    return None
