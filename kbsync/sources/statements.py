"""From statements to facts: what is current, what has labels, and what is left out with a note."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from kbsync.errors import SourceError
from kbsync.facts import Entity, Fact
from kbsync.sources import queries
from kbsync.sources.base import MOST_LETTERS, Ask, Notes, by_label, clean, iri_of, short_enough, short_id, shown, tidy
from kbsync.sources.current import Statement, current, usable
from kbsync.sources.paging import BATCH, Gather, Paged, Rows, Select, take_all
from kbsync.sources.results import Row, Term

__all__ = ["read_aliases", "read_facts", "take_all"]

MOST_NAMES = 100_000
"""objects whose names are remembered, as many subjects have the same ones"""


def read_facts(
    select: Select, ask: Ask, *, ordered: bool = True, rows_of: Gather = Paged
) -> tuple[tuple[Fact, ...], tuple[str, ...], frozenset[tuple[str, str]]]:
    """Return the current facts that `ask` asks for, notes on what was left out, and what has no label.

    The last are the keys of subject and object of current statements in which one of them has no label.

    With a limit, `ordered` says whether the subjects taken are the first by IRI, or any that the source likes.
    `rows_of` is how all rows of a question are had. Raises SourceError where there are no sitelinks to choose by.
    """
    rows = rows_of(select)
    notes = Notes()
    things: dict[str, Entity | None] = {}
    facts: list[Fact] = []
    nameless: set[tuple[str, str]] = set()
    wanted = ask.limit
    for batch in _batches(_choose_subjects(select, rows, ask, notes, ordered)):
        said = _about(rows, batch, lambda iris: queries.statements(ask.relation, iris), "subject")
        pairs = list(usable(current(said, ask.day, notes), queries.label_languages(ask.language), notes))
        names = _read_labels(rows, [iri for iri in _mentioned(pairs) if iri not in things], ask.language)
        things |= {iri: Entity(label, short_id(iri)) if label else None for iri, label in names.items()}
        nameless |= _nameless(pairs, things)
        groups = _by_subject(_label(pairs, ask, things, notes))[:wanted]
        facts.extend(tidy(itertools.chain.from_iterable(groups)))  # a subject's facts all stand in one batch
        for subject in batch:  # which comes once
            things.pop(subject, None)
        if len(things) > MOST_NAMES:
            things.clear()
        if wanted is not None:
            wanted -= len(groups)
            if wanted == 0:
                break
    if not facts and ask.min_sitelinks is not None:
        _check_sitelinks(select, ask)
    facts.sort(key=by_label)
    return tuple(facts), notes.lines(), frozenset(nameless)


def _about(rows: Rows, iris: Sequence[str], query: Callable[[Sequence[str]], queries.Query], name: str) -> list[Row]:
    """Return all rows of `query` over `iris`; raises SourceError for a row whose `name` is none of them."""
    found = rows.about(iris, query)
    asked = set(iris)
    for row in found:
        if row[name].value not in asked:
            raise SourceError(
                f"speaks of {shown(row[name].value, 100)!r}, which was not asked for; check the endpoint",
                query=query(iris[:BATCH]).text(),
            )
    return found


def _check_sitelinks(select: Select, ask: Ask) -> None:
    """Raise SourceError where the relation has subjects, but none with a number of sitelinks."""
    any_number, none = replace(ask, min_sitelinks=0), replace(ask, min_sitelinks=None)
    if not select(queries.subjects(any_number).text(1)) and select(queries.subjects(none).text(1)):
        raise SourceError(
            "has no number of sitelinks (wikibase:sitelinks), so --min-sitelinks cannot choose; narrow the pull with "
            "--class, --subjects or --limit"
        )


def _choose_subjects(select: Select, rows: Rows, ask: Ask, notes: Notes, ordered: bool) -> Iterator[str]:
    found: Iterable[Term]
    if ask.subjects is None and ask.limit is None:
        found = (row["subject"] for row in rows.subjects(ask))
    else:
        few = select(queries.sample(ask, ordered=ordered)) if ask.subjects is None else _find_named(rows, ask, notes)
        found = sorted((row["subject"] for row in few), key=lambda term: term.value)
    for subject in found:
        if subject.kind == "iri" and iri_of(f"<{subject.value}>") is None:
            notes.add("subject with a bad IRI", subject.value)
        elif subject.kind == "iri":
            yield subject.value
        else:
            notes.add("subject that is a blank node", f"_:{subject.value}")


def _find_named(rows: Rows, ask: Ask, notes: Notes) -> list[Row]:
    names = ask.subjects or ()
    chosen: dict[str, Row] = {}
    found: set[str] = set()
    for row in rows.about(names, lambda some: queries.subjects_named(ask, some)):
        chosen[row["subject"].value] = row
        found.add(row["name"].value)
    narrowed = ask.class_id is not None or ask.min_sitelinks is not None
    part = ", or not the class or sitelinks" if narrowed else ""
    for name in names:
        if (iri_of(name) or name) not in found:
            notes.add(f"subject asked for that has no {ask.relation} here{part}", name)
    return list(chosen.values())


def _read_labels(rows: Rows, iris: Sequence[str], language: str) -> dict[str, str]:
    """Return the best label of each of `iris`, "" where there is none."""
    order = queries.label_languages(language)
    best: dict[str, tuple[int, str]] = {}
    for row in _about(rows, iris, lambda some: queries.labels(some, language), "entity"):
        label, rank = clean(row["label"].value), queries.language_rank(row["label"].language, order)
        if rank is None:
            raise SourceError(
                f"gave a label in {shown(row['label'].language, 40)!r}, which was not asked for; check the endpoint",
                query=queries.labels(iris[:BATCH], language).text(),
            )
        if label:
            candidate = (rank, label)
            best[row["entity"].value] = min(candidate, best.get(row["entity"].value, candidate))
    return {iri: best[iri][1] if iri in best else "" for iri in iris}


def read_aliases(
    select: Select, facts: Iterable[Fact], ask: Ask, *, rows_of: Gather = Paged
) -> Mapping[str, tuple[str, ...]] | None:
    """Return the aliases of every subject and object of `facts` by key, sorted; None where `ask` wants none."""
    if not ask.aliases:
        return None
    entities = dict.fromkeys(entity for fact in facts for entity in (fact.subject, fact.object))
    found: dict[str, set[str]] = {entity.key: set() for entity in entities}
    iris = dict.fromkeys(iri for entity in entities if (iri := iri_of(entity.key) or iri_of(f"<{entity.key}>")))
    for row in _about(rows_of(select), list(iris), lambda some: queries.aliases(some, ask.language), "entity"):
        alias = clean(row["label"].value)
        if alias and len(alias) <= MOST_LETTERS:
            found[short_id(row["entity"].value)].add(alias)
    return {key: tuple(sorted(names)) for key, names in found.items()}


def _mentioned(pairs: Iterable[tuple[Statement, Term]]) -> Iterable[str]:
    """The IRIs of subjects and objects, each once."""
    return dict.fromkeys(
        iri
        for statement, value in pairs
        for iri in (statement.subject, *((value.value,) if value.kind == "iri" else ()))
    )


def _nameless(pairs: Iterable[tuple[Statement, Term]], things: Mapping[str, Entity | None]) -> set[tuple[str, str]]:
    return {
        (short_id(statement.subject), short_id(value.value))
        for statement, value in pairs
        if value.kind == "iri" and not (things[statement.subject] and things[value.value])
    }


def _label(
    pairs: Iterable[tuple[Statement, Term]], ask: Ask, things: Mapping[str, Entity | None], notes: Notes
) -> Iterator[Fact]:
    languages = ", ".join(tag for tag in queries.label_languages(ask.language) if tag and "*" not in tag)
    for statement, value in pairs:
        subject = things[statement.subject]
        thing = Entity(clean(value.value)) if value.kind == "literal" else things[value.value]
        if subject is None:
            notes.add(f"subject without a label ({languages})", short_id(statement.subject))
        elif thing is None:
            notes.add(f"object without a label ({languages})", short_id(value.value))
        elif short_enough(subject.label, thing.label, notes):
            yield Fact(subject, ask.relation, thing, statement.rank, statement.since)


def _by_subject(facts: Iterable[Fact]) -> list[list[Fact]]:
    groups: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        groups[fact.subject.key].append(fact)
    return list(groups.values())


def _batches(names: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(itertools.islice(names, BATCH)):
        yield batch
