"""Which statements are current, and which of their objects can be objects of facts. What is left out is noted.

A statement is current on a day if it has begun by that day (P580), has not ended by it (P582), and no other such
statement of its subject has a better rank; deprecated ones never are. Ended ones go first, so that a former object
that somebody left on preferred rank does not hide the present one. A date is as precise as it says: one of a year is
all of that year, so a statement that ends in 2026 stands until the year is over.

Entities and text are objects: plain strings, and of a subject's monolingual texts those in the best language that is
asked for. Dates, quantities and coordinates are not: their plain value has neither precision nor unit, so that it
cannot be put into words truly (Wikidata writes the year 1889 as 1 January 1889).
"""

import datetime
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from kbsync.sources.base import Notes, clean, iri_of, short_id
from kbsync.sources.queries import language_rank
from kbsync.sources.results import Row, Term

__all__ = ["Statement", "current", "usable"]

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


def current(rows: Iterable[Row], day: datetime.date, notes: Notes) -> list[Statement]:
    """Return the statements in `rows` that are current on `day`, by subject; why others are not is noted."""
    groups: dict[tuple[Term, Term | None], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["subject"], row.get("statement") or row.get("object")].append(row)
    by_subject: dict[str, list[Statement]] = defaultdict(list)
    for group in groups.values():
        statement, past = _merge(group, day)
        if past:
            notes.add(past, _name(statement))
        else:
            by_subject[statement.subject].append(statement)
    return [statement for subject in sorted(by_subject) for statement in _best_rank(by_subject[subject], notes)]


def _best_rank(statements: list[Statement], notes: Notes) -> list[Statement]:
    preferred = [statement for statement in statements if statement.rank == "preferred"]
    for statement in statements if preferred else ():
        if statement.rank != "preferred":
            notes.add("statement beside one of preferred rank", _name(statement))
    return preferred or statements


def _name(statement: Statement) -> str:
    return f"{short_id(statement.subject)} -> {short_id(statement.object.value) if statement.object else 'no value'}"


def _merge(rows: Sequence[Row], day: datetime.date) -> tuple[Statement, str]:
    """Make one statement of its rows (several where a qualifier has several values); and why it is none, or ""."""
    today = (day.year, day.month, day.day)
    starts = [_interval(row["start"], row.get("startPrecision")) for row in rows if "start" in row]
    ends = [_interval(row["end"], row.get("endPrecision")) for row in rows if "end" in row]
    begun = [start for start in starts if start is None or start[0] <= today]
    known = [start[0] for start in begun if start is not None]
    ranked = rows[0].get("rank")
    rank = _RANKS.get(ranked.value, "normal") if ranked else "normal"
    statement = Statement(rows[0]["subject"].value, rows[0].get("object"), rank, _iso(max(known)) if known else None)
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


def _iso(date: _Day) -> str:
    year, month, day = date
    return f"{'-' if year < 0 else ''}{abs(year):04}-{month:02}-{day:02}"


def usable(statements: Iterable[Statement], languages: Sequence[str], notes: Notes) -> Iterator[tuple[Statement, Term]]:
    """Yield the statements, each with its object, whose objects are entities or text in one of `languages`.

    `statements` are those of one subject after the other; `languages` are in the order of preference.
    """
    for subject, group in groupby(statements, lambda statement: statement.subject):
        named = [(statement, value) for statement in group if (value := _named(statement, notes)) is not None]
        texts = {value.language for _, value in named if value.kind == "literal" and value.language}
        ranked = [(rank, tag) for tag in texts if (rank := language_rank(tag, languages)) is not None]
        best = min(ranked)[1] if ranked else None
        for statement, value in named:
            if value.kind == "literal" and value.language and value.language != best:
                if best is None:
                    notes.add("text in another language", f"{short_id(subject)} -> {value.language}")
            else:
                yield statement, value


def _named(statement: Statement, notes: Notes) -> Term | None:
    """Return the object if it is an entity or text; note why it is not."""
    subject, value = short_id(statement.subject), statement.object
    if value is None:
        notes.add('"no value" stated', subject)
    elif value.kind == "blank" or _UNKNOWN in value.value:
        notes.add("unknown value", subject)
    elif value.kind == "iri" and iri_of(f"<{value.value}>") is None:
        notes.add("object with a bad IRI", f"{subject} -> {value.value}")
    elif value.kind == "literal" and (value.datatype or not clean(value.value)):
        kind = _KINDS.get(value.datatype, "literal of another type") if value.datatype else "empty text"
        notes.add(f"{kind} in place of an entity", f"{subject} -> {value.value[:40]!r}")
    else:
        return value
    return None
