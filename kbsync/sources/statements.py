"""From statements to facts: what is current, what has labels, and what is left out with a note.

A statement is current on a day if it has begun by that day (P580), has not ended by it (P582), and no other such
statement of its subject has a better rank; deprecated ones never are. Ended ones go first, so that a former object
that somebody left on preferred rank does not hide the present one.
"""

import datetime
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kbsync.errors import SourceError
from kbsync.facts import Entity, Fact
from kbsync.sources import queries
from kbsync.sources.base import Ask, Notes, iri_of, short_id, tidy
from kbsync.sources.results import Row, Term

__all__ = ["Gather", "Select", "Statement", "current", "gather", "read_aliases", "read_facts", "take_all"]

PAGE = 50_000
"""Rows asked for at once; an endpoint that gives fewer is asked again for the rest."""
BATCH = 500
"""Subjects, names or entities put into one query."""

Select = Callable[[str], list[Row]]
"""Asks a source one SPARQL text; raises SourceError if its answer is not whole."""
Gather = Callable[[Select, queries.Query], list[Row]]
"""Gives all rows of a query: `gather` does so by pages that are counted, `take_all` in one go."""

_RANKS = {
    "http://wikiba.se/ontology#PreferredRank": "preferred",
    "http://wikiba.se/ontology#NormalRank": "normal",
    "http://wikiba.se/ontology#DeprecatedRank": "deprecated",
}
_UNKNOWN = "/.well-known/genid/"  # how Wikidata's query service writes "unknown value"
_DATE = re.compile(r"([+-]?)(\d{4,})(?:-(\d\d)(?:-(\d\d))?)?")


@dataclass(frozen=True, slots=True)
class Statement:
    """A subject's object (None: "no value") with rank; dates are ISO text, `ended` may be known without a date."""

    subject: str
    object: Term | None
    rank: str
    since: str | None
    begun: bool
    ended: bool


def take_all(select: Select, query: queries.Query) -> list[Row]:
    """Return all rows of `query` from a source whose answers are whole by nature, as those of a local store are."""
    return select(query.text())


def gather(select: Select, query: queries.Query) -> list[Row]:
    """Return all rows of `query`, page by page; raises SourceError if they are not the number the source counts."""
    rows: dict[frozenset[tuple[str, Term]], Row] = {}
    asked = 0
    while True:
        text = query.page(PAGE, asked)
        page = select(text)
        totals = [row.pop("total") for row in page if "total" in row]
        news = [row for row in page if row]
        asked += len(news)
        rows |= {frozenset(row.items()): row for row in news}
        if len(totals) == 1 and len(rows) == asked == int(totals[0].value):
            return list(rows.values())
        if len(totals) != 1 or not news or len(rows) != asked or asked > int(totals[0].value):
            raise SourceError(
                f"gave {len(rows)} rows where it counts {totals[0].value if totals else 'more'}: it cut its answer, "
                "or its data changed meanwhile; run the pull again, or ask for less (--class, --subjects, "
                "--min-sitelinks)",
                query=text,
            )


def read_facts(
    select: Select, ask: Ask, *, ordered: bool = True, rows_of: Gather = gather
) -> tuple[tuple[Fact, ...], tuple[str, ...]]:
    """Return the current facts that `ask` asks for, and notes on what was left out.

    With a limit, `ordered` says whether the subjects taken are the first by IRI, or any that the source likes.
    `rows_of` is how all rows of a query are had.
    """
    notes = Notes()
    names: dict[str, str] = {}
    facts: list[Fact] = []
    wanted = ask.limit
    for batch in _batches(_choose_subjects(select, ask, notes, ordered, rows_of)):
        rows = rows_of(select, queries.statements(ask.relation, batch))
        pairs = list(_entities(current(rows, ask.day), notes))
        mentioned = dict.fromkeys(iri for statement, value in pairs for iri in (statement.subject, value))
        unread = [iri for iri in mentioned if iri not in names]
        names |= _read_labels(select, unread, ask.language, rows_of)
        groups = _by_subject(_label(pairs, ask, names, notes))[:wanted]
        facts.extend(itertools.chain.from_iterable(groups))
        if wanted is not None:
            wanted -= len(groups)
            if wanted == 0:
                break
    return tidy(facts), notes.lines()


def current(rows: Iterable[Row], day: datetime.date) -> list[Statement]:
    """Return the statements in `rows` that are current on `day`, by subject."""
    groups: dict[tuple[Term, Term | None], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["subject"], row.get("statement") or row.get("object")].append(row)
    by_subject: dict[str, list[Statement]] = defaultdict(list)
    for group in groups.values():
        statement = _merge(group, day)
        if statement.begun and not statement.ended and statement.rank != "deprecated":
            by_subject[statement.subject].append(statement)
    return [statement for subject in sorted(by_subject) for statement in _best_rank(by_subject[subject])]


def _best_rank(statements: list[Statement]) -> list[Statement]:
    preferred = [statement for statement in statements if statement.rank == "preferred"]
    return preferred or statements


def _merge(rows: Sequence[Row], day: datetime.date) -> Statement:
    """Make one statement of its rows: several where a qualifier has several values."""
    today = (day.year, day.month, day.day)
    starts = [_date(row["start"]) for row in rows if "start" in row]
    ends = [_date(row["end"]) for row in rows if "end" in row]
    begun = [start for start in starts if start is None or start <= today]
    known = [start for start in begun if start is not None]
    rank = rows[0].get("rank")
    return Statement(
        subject=rows[0]["subject"].value,
        object=rows[0].get("object"),
        rank=_RANKS.get(rank.value, "normal") if rank else "normal",
        since=_iso(max(known)) if known else None,
        begun=bool(begun) or not starts,
        # An end at an unknown time is an end all the same.
        ended=bool(ends) and not any(end is not None and end > today for end in ends),
    )


def _date(term: Term) -> tuple[int, int, int] | None:
    """Return year, month and day; a missing month or day counts as the first. None for an unknown time."""
    match = _DATE.match(term.value) if term.kind == "literal" else None
    if not match:
        return None
    sign, year, month, day = match.groups()
    return (-int(year) if sign == "-" else int(year), int(month or 1) or 1, int(day or 1) or 1)


def _iso(date: tuple[int, int, int]) -> str:
    year, month, day = date
    return f"{'-' if year < 0 else ''}{abs(year):04}-{month:02}-{day:02}"


def _choose_subjects(select: Select, ask: Ask, notes: Notes, ordered: bool, rows_of: Gather) -> Iterator[str]:
    if ask.subjects is not None:
        rows = _find_named(select, ask, ask.subjects, notes, rows_of)
    elif ask.limit is None:
        rows = rows_of(select, queries.subjects(ask))
    else:
        # Some subjects turn out to have no current fact, so ask for more than are wanted.
        rows = select(queries.subjects(ask).text(limit=2 * ask.limit + 50, ordered=ordered))
    for subject in sorted((row["subject"] for row in rows), key=lambda term: term.value):
        if subject.kind == "iri":
            yield subject.value
        else:
            notes.add("subject that is a blank node", f"_:{subject.value}")


def _find_named(select: Select, ask: Ask, names: Sequence[str], notes: Notes, rows_of: Gather) -> list[Row]:
    rows: dict[str, Row] = {}
    found: set[str] = set()
    for batch in _batches(iter(names)):
        for row in rows_of(select, queries.subjects_named(ask, batch)):
            rows[row["subject"].value] = row
            found.add(row["name"].value)
    for name in names:
        if (iri_of(name) or name) not in found:
            notes.add(f"subject asked for that has no {ask.relation} here", name)
    return list(rows.values())


def _entities(statements: Iterable[Statement], notes: Notes) -> Iterator[tuple[Statement, str]]:
    """Yield the statements whose object is an entity, each with the object's IRI."""
    for statement in statements:
        subject, value = short_id(statement.subject), statement.object
        if value is None:
            notes.add('"no value" stated', subject)
        elif value.kind == "literal":
            notes.add("literal in place of an entity", f"{subject} -> {value.value[:40]!r}")
        elif value.kind == "blank" or _UNKNOWN in value.value:
            notes.add("unknown value", subject)
        else:
            yield statement, value.value


def _read_labels(select: Select, iris: Sequence[str], language: str, rows_of: Gather) -> dict[str, str]:
    """Return the best label of each of `iris`, "" where there is none."""
    order = queries.label_languages(language)
    best: dict[str, tuple[int, str]] = {}
    for batch in _batches(iter(iris)):
        for row in rows_of(select, queries.labels(batch, language)):
            label = " ".join(row["label"].value.split())
            if label:
                candidate = (order.index(row["label"].language), label)
                best[row["entity"].value] = min(candidate, best.get(row["entity"].value, candidate))
    return {iri: best[iri][1] if iri in best else "" for iri in iris}


def read_aliases(
    select: Select, facts: Iterable[Fact], ask: Ask, *, rows_of: Gather = gather
) -> Mapping[str, tuple[str, ...]] | None:
    """Return the aliases of every subject and object of `facts` by key, sorted; None where `ask` wants none."""
    if not ask.aliases:
        return None
    entities = dict.fromkeys(entity for fact in facts for entity in (fact.subject, fact.object))
    found: dict[str, set[str]] = {entity.key: set() for entity in entities}
    iris = dict.fromkeys(iri for entity in entities if (iri := iri_of(entity.key) or iri_of(f"<{entity.key}>")))
    for batch in _batches(iter(iris)):
        for row in rows_of(select, queries.aliases(batch, ask.language)):
            alias = " ".join(row["label"].value.split())
            if alias:
                found[short_id(row["entity"].value)].add(alias)
    return {key: tuple(sorted(names)) for key, names in found.items()}


def _label(pairs: Iterable[tuple[Statement, str]], ask: Ask, names: dict[str, str], notes: Notes) -> Iterator[Fact]:
    languages = ", ".join(tag for tag in queries.label_languages(ask.language) if tag)
    for statement, value in pairs:
        if not names[statement.subject]:
            notes.add(f"subject without a label ({languages})", short_id(statement.subject))
        elif not names[value]:
            notes.add(f"object without a label ({languages})", short_id(value))
        else:
            yield Fact(
                subject=Entity(names[statement.subject], short_id(statement.subject)),
                relation=ask.relation,
                object=Entity(names[value], short_id(value)),
                rank=statement.rank,
                since=statement.since,
            )


def _by_subject(facts: Iterable[Fact]) -> list[list[Fact]]:
    groups: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        groups[fact.subject.key].append(fact)
    return list(groups.values())


def _batches(names: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(itertools.islice(names, BATCH)):
        yield batch
