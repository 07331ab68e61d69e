"""Pull: read a source for some relations, and record what is new, changed and withdrawn."""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kbsync.errors import SourceError
from kbsync.facts import check_relation
from kbsync.ledger import Change, Ledger
from kbsync.ledger.facts import record_aliases
from kbsync.ledger.pulls import drop_pages, record_pull
from kbsync.sources import Ask, Reading, Source, is_wikidata, open_source, read_subjects
from kbsync.sources.access import Access
from kbsync.sources.base import iri_of, short_id
from kbsync.sources.huge import check_narrowed
from kbsync.workflows.changed_files import FileState, look_at
from kbsync.workflows.kept_pages import kept_pages
from kbsync.workflows.templates import templates_for

if TYPE_CHECKING:
    from kbsync.sources.rdf_file import ChangedPart

__all__ = ["Pulled", "make_asks", "pull"]


@dataclass(frozen=True, slots=True)
class Pulled:
    """One recorded pull: its counts of facts, of subjects in conflict, and notes on what the source left out.

    `label` is the relation's, from its template; None where it has none.
    """

    pull: int
    source: str
    relation: str
    label: str | None
    new: int
    changed: int
    withdrawn: int
    unchanged: int
    conflicting: int
    aliases: int
    """names read beside the labels; 0 where they were not asked for"""
    own_wordings: int
    """facts that came with prompts of their own"""
    skipped: tuple[str, ...]
    changes: tuple[Change, ...]
    as_of: datetime.date | None = None
    """the day that was asked about; None: today"""


@dataclass(frozen=True, slots=True)
class _Read:
    ask: Ask
    reading: Reading
    started: datetime.datetime


def make_asks(
    relations: Sequence[str],
    source: str,
    *,
    class_id: str | None = None,
    subjects_file: Path | None = None,
    language: str = "en",
    limit: int | None = None,
    min_sitelinks: int | None = None,
    as_of: datetime.date | None = None,
    aliases: bool = False,
) -> list[Ask]:
    """Return what a pull asks `source` for, a relation after the other.

    Raises SettingsError, also where the source cannot give a relation whole, and SourceError for the file of subjects.
    """
    subjects = None if subjects_file is None else read_subjects(subjects_file)
    wikidata = is_wikidata(source)
    asks = [
        Ask(check_relation(relation), class_id, subjects, language, limit, min_sitelinks, as_of, aliases, not wikidata)
        for relation in dict.fromkeys(relations)
    ]
    if wikidata:
        for ask in asks:
            check_narrowed(ask)
    return asks


def pull(
    home: Path,
    asks: Sequence[Ask],
    source: str,
    progress: Callable[[str, int, int], None],
    *,
    contact: str | None = None,
) -> list[Pulled]:
    """Read `source` for all `asks`, then record them together: an error leaves the facts on record as they were.

    `contact` is told to an endpoint. What an endpoint has answered is kept until the pull is recorded (a day at
    most), so that one that was interrupted goes on.

    Raises SettingsError, SourceError (also for a relation of which nothing is found and nothing is on record),
    TemplateError and LedgerError.
    """
    templates = templates_for(home)
    known = _pulled_before(home)  # opens the ledger: one that cannot be used shows before a long reading
    with kept_pages(home, source) as pages:
        opened = open_source(source, Access(contact, pages, progress), asks=asks)
        state = look_at(home, opened, asks)
        try:
            reads = _read_all(state.part or opened, asks, known, progress)
        except _NothingFoundError:
            pages.drop()
            raise
    results = []
    with Ledger.open(home) as ledger, ledger.writing():
        for done in range(1, len(asks) + 1):
            read = reads.pop(0)  # let go of what is recorded
            template = templates.get(read.ask.relation)
            results.append(_record(ledger, read, state, template.label if template else None))
            progress("recording", done, len(asks))
        made = {result.relation: result.pull for result in results}
        state.remember(ledger, opened.name, asks, made, {result.relation: result.skipped for result in results})
        drop_pages(ledger, pages.used)
    return results


class _NothingFoundError(SourceError):
    """A whole answer without a fact: what was kept of it would hide what the source has later."""


def _pulled_before(home: Path) -> frozenset[tuple[str, str]]:
    """The (source, relation) pairs on record."""
    if not (home / "ledger.db").exists():
        return frozenset()
    with Ledger.open(home) as ledger:
        return frozenset((earlier.source, earlier.relation) for earlier in ledger.pulls())


def _read_all(
    source: "Source | ChangedPart",
    asks: Sequence[Ask],
    known: frozenset[tuple[str, str]],
    progress: Callable[[str, int, int], None],
) -> list[_Read]:
    reads = []
    for done, ask in enumerate(asks):
        progress("reading", done, len(asks))
        started = datetime.datetime.now(datetime.UTC)
        reading = source.read(ask)
        if not reading.facts and (reading.source, ask.relation) not in known:
            raise _NothingFoundError(_nothing_found(reading, ask), query=reading.query)
        reads.append(_Read(ask, reading, started))
    progress("reading", len(asks), len(asks))
    return reads


def _nothing_found(reading: Reading, ask: Ask) -> str:
    what = f"{reading.source} has no current statement of {ask.relation}"
    if ask.partial:
        what += " within what --class, --subjects, --limit and --min-sitelinks ask for"
    if reading.skipped:
        what += f" that can be used ({'; '.join(reading.skipped)})"
    return f"{what}: check the relation's id and the options; nothing was recorded"


def _record(ledger: Ledger, read: _Read, state: FileState, label: str | None) -> Pulled:
    ask, reading = read.ask, read.reading
    counts = record_pull(
        ledger,
        source=reading.source,
        relation=ask.relation,
        query=reading.query,
        facts=reading.facts,
        withdraw=state.part.keys if state.part else _withdraw(ledger, ask, reading.source),
        started=read.started,
        rest_unchanged=state.part is not None,
        as_of=ask.as_of,
        nameless=reading.nameless,
    )
    named = reading.aliases or {}
    if named:
        record_aliases(ledger, reading.source, named)
    return Pulled(
        counts.pull,
        reading.source,
        ask.relation,
        label,
        counts.new,
        counts.changed,
        counts.withdrawn,
        counts.unchanged,
        counts.conflicting,
        sum(map(len, named.values())),
        sum(fact.wording is not None for fact in reading.facts),
        (*reading.skipped, *state.notes(ask.relation)),
        counts.changes,
        ask.as_of,
    )


def _withdraw(ledger: Ledger, ask: Ask, source: str) -> Literal["all", "none"] | frozenset[str]:
    """Say of which subjects a missing fact is withdrawn: of those, and only those, that the pull asked for.

    A limit, class or sitelinks leave open whether a subject was asked for. A label asks for the subject that bears
    it letter by letter, as a source looks it up so.
    """
    if ask.class_id is not None or ask.limit is not None or ask.min_sitelinks is not None:
        return "none"
    if ask.subjects is None:
        return "all"
    ids = {short_id(iri_of(subject) or subject) for subject in ask.subjects}
    labels = set(ask.subjects)
    rows = ledger.facts([ask.relation], withdrawn=False)
    asked = (row for row in rows if row.source == source and (row.subject_id in ids or row.subject_label in labels))
    return frozenset(row.subject_key for row in asked)
