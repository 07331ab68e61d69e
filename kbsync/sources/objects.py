"""Which objects of statements become objects of facts.

Entities do, and so does text: plain strings, and of a subject's monolingual texts those in the best language that is
asked for. Dates, quantities and coordinates do not: their plain value has neither precision nor unit, so that it
cannot be put into words truly (Wikidata writes the year 1889 as 1 January 1889). What is left out is noted by kind.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from kbsync.sources.base import Notes, clean, short_id
from kbsync.sources.current import Statement
from kbsync.sources.results import Term

__all__ = ["usable"]

_UNKNOWN = "/.well-known/genid/"  # how Wikidata's query service writes "unknown value"
_XSD = "http://www.w3.org/2001/XMLSchema#"
_KINDS = {
    **dict.fromkeys((f"{_XSD}{name}" for name in ("dateTime", "date", "gYear", "gYearMonth")), "date"),
    **dict.fromkeys((f"{_XSD}{name}" for name in ("decimal", "integer", "double", "float")), "quantity"),
    "http://www.opengis.net/ont/geosparql#wktLiteral": "coordinates",
}


def usable(statements: Iterable[Statement], languages: Sequence[str], notes: Notes) -> Iterator[tuple[Statement, Term]]:
    """Yield the statements, each with its object, whose objects are entities or text in one of `languages`.

    `statements` are those of one subject after the other; `languages` are in the order of preference.
    """
    for subject, group in groupby(statements, lambda statement: statement.subject):
        named = [(statement, value) for statement in group if (value := _named(statement, notes)) is not None]
        texts = [value.language for _, value in named if value.kind == "literal" and value.language]
        best = next((language for language in languages if language in texts), None)
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
    elif value.kind == "literal" and (value.datatype or not clean(value.value)):
        kind = _KINDS.get(value.datatype, "literal of another type") if value.datatype else "empty text"
        notes.add(f"{kind} in place of an entity", f"{subject} -> {value.value[:40]!r}")
    else:
        return value
    return None
