"""Pull: read a source for some relations, and record what is new, changed and withdrawn."""

import datetime
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kbsync.errors import SourceError, WithdrawalsError
from kbsync.facts import Skipped
from kbsync.ledger import Change, FactRow, Ledger, PullCounts
from kbsync.ledger.facts import record_aliases, record_priority, rename_source, standing_alone
from kbsync.ledger.pages import drop_pages
from kbsync.ledger.pulls import OUTSIDE, NewPull, Staged, changes, record_pull, unread
from kbsync.shapes import iri_of, short_id
from kbsync.sources import Ask, Reading, Source, open_source
from kbsync.sources.base import Access
from kbsync.sync.home import templates_for
from kbsync.sync.reading import FileState, KeptPages, look_at, scope_of, scope_text
from kbsync.templates import Templates

if TYPE_CHECKING:
    from kbsync.sources.rdf_file import ChangedPart


MAX_WITHDRAWN = 20.0
"""per cent of a relation's facts that a pull may withdraw; up to `FEW` of them are no reason to doubt a source"""
FEW = 4


class Changes:
    """What a pull changed, read from the ledger of `home` each time that it is gone through: it may be a million."""

    def __init__(self, home: Path, pull: int, held: list[Change] | None = None) -> None:
        self._home, self._pull, self._held = home, pull, held

    def hold(self) -> None:
        self._held = list(self)

    def __iter__(self) -> Iterator[Change]:
        return self.of("+~-=")

    def of(self, signs: str) -> Iterator[Change]:
        if self._held is not None:
            yield from (change for sign in signs for change in self._held if change.sign == sign)
            return
        with Ledger.open(self._home, create=False) as ledger:
            yield from changes(ledger, self._pull, signs)


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
    changes: Changes
    as_of: datetime.date | None = None
    """the day that was asked about; None: today"""
    relabelled: int = 0
    """the same object under another label, of its own or of its subject"""
    scope: dict[str, Any] | None = None
    """what narrowed the pull: class, min_sitelinks, and how many subjects; None: the whole relation"""
    scope_by_default: bool = False
    """whether its template narrowed it, and not the user"""


@dataclass(frozen=True, slots=True)
class _Read:
    ask: Ask
    reading: Reading
    """without its facts"""
    facts: Staged
    started: datetime.datetime
    missing: tuple[FactRow, ...] = ()
    """facts whose subjects were in the scope when they were last seen, and are not there now"""
    outside: frozenset[tuple[str, str]] = frozenset()
    """(subject key, object key) of those that the source states all the same"""


def pull(
    home: Path,
    asks: Sequence[Ask],
    source: str,
    progress: Callable[[str, int, int], None],
    *,
    contact: str | None = None,
    query: str | None = None,
    name: str | None = None,
    priority: int | None = None,
    max_withdrawn: float = MAX_WITHDRAWN,
    accept_withdrawals: bool = False,
    only_news: bool = False,
) -> list[Pulled]:
    """Read `source` for all `asks`, then record them together: an error leaves the facts on record as they were.

    `contact` is told to an endpoint, `query` asks the source in place of what the relations' templates say. What an
    endpoint has answered is kept until the pull is recorded (a day at most), so that an interrupted one goes on. `name`
    is what the ledger knows the source by (None: its address or path), so that another file may follow one; where
    sources disagree, that of the highest `priority` counts (None: as it is on record). With `only_news` nothing is
    recorded where nothing is new: each result then has the number of the pull that it repeats.
    """
    templates, known = templates_for(home), frozenset[tuple[str, str]]()
    if (home / "ledger.db").exists():
        with Ledger.open(home) as ledger:  # one that cannot be used shows before a long reading
            known = frozenset((earlier.source, earlier.relation) for earlier in ledger.pulls())
    with KeptPages(home, source) as pages:
        opened = open_source(source, Access(contact, pages, progress), asks=asks, query=query)
        name = name or opened.name
        known |= {(name, relation) for source, relation in known if source == opened.name}
        state = look_at(home, opened, asks, name)
        found: list[tuple[Pulled, PullCounts]] = []
        try:
            reads = _read_all(home, state.part or opened, name, asks, known, progress)
            with Ledger.open(home) as ledger, ledger.writing():
                # A project has a name of its own for a file that was pulled by hand before.
                renamed = name != opened.name and rename_source(ledger, opened.name, name)
                reordered = priority is not None and record_priority(ledger, name, priority)
                while reads:  # all that was read is recorded, and each part of it let go of
                    found.append(_record(home, ledger, reads.pop(0), state, templates))
                    progress("recording", len(found), len(asks))
                if not accept_withdrawals:
                    _check_withdrawals(name, [counts for _, counts in found], asks, max_withdrawn)
                if only_news and not (renamed or reordered) and all(counts.repeats is not None for _, counts in found):
                    raise _NothingNewError
                state.remember(ledger, name, asks, {one.relation: (one.pull, one.skipped) for one, _ in found})
                drop_pages(ledger, pages.used)
        except _NothingNewError:
            pages.drop()
            # Each is the one that it repeats, without the changes of that.
            again = [(pulled, counts.repeats or 0) for pulled, counts in found]
            return [replace(pulled, pull=one, changes=Changes(home, one, [])) for pulled, one in again]
        except (_NothingFoundError, WithdrawalsError):
            pages.drop()  # kept, they would hide what the source has when it is asked again
            raise
    return [pulled for pulled, _ in found]


def withdraw_rest(
    home: Path, asked: Collection[tuple[str, str]], *, max_withdrawn: float, accept_withdrawals: bool
) -> list[Pulled]:
    """Withdraw what is on record of all but the (source, relation) pairs `asked`, as if those had nothing any more.

    Facts that a source among `asked` states too go on standing, and count for nothing here.
    """
    templates = templates_for(home)
    results, doubts = [], []
    with Ledger.open(home) as ledger, ledger.writing():
        pairs = {(earlier.source, earlier.relation) for earlier in ledger.pulls()}
        for source, relation in sorted(pairs - set(asked)):
            others = [name for name, its in asked if its == relation]
            standing, alone = standing_alone(ledger, source, relation, others)
            if not standing:
                continue
            ask, started = Ask(relation), datetime.datetime.now(datetime.UTC)
            read = _Read(ask, Reading(source, None, (), ()), Staged(relation, (), home), started)
            results.append(_record(home, ledger, read, FileState(), templates)[0])
            if _too_much(alone, standing, max_withdrawn):
                doubts.append(f"{source} ({relation} {alone:,} of {standing:,})")
        if doubts and not accept_withdrawals:
            raise WithdrawalsError(
                f"no longer among the sources: {', '.join(doubts)}; what they stated would be withdrawn. To go on, "
                "name them again, or accept it with --accept-withdrawals"
            )
    return results


class _NothingNewError(Exception):
    """All of a pull is on record: it is taken back."""


def _check_withdrawals(name: str, found: Sequence[PullCounts], asks: Sequence[Ask], most: float) -> None:
    doubts = [
        f"{ask.relation} {counts.withdrawn:,} of {counts.standing:,}"
        for ask, counts in zip(asks, found, strict=True)
        if _too_much(counts.withdrawn, counts.standing, most)
    ]
    if doubts:
        raise WithdrawalsError(
            f"{name} has far fewer facts than before; this pull would withdraw {', '.join(doubts)}. Nothing was "
            "recorded. To record it, pull again with --accept-withdrawals (--max-withdrawn sets the bound)"
        )


def _too_much(gone: int, stood: int, most: float) -> bool:
    return gone > 0 and (gone == stood or (gone > FEW and 100 * gone > most * stood))


class _NothingFoundError(SourceError):
    """A whole answer without a fact: what was kept of it would hide what the source has later."""


def _read_all(
    home: Path,
    source: "Source | ChangedPart",
    name: str,
    asks: Sequence[Ask],
    known: frozenset[tuple[str, str]],
    progress: Callable[[str, int, int], None],
) -> list[_Read]:
    reads = []
    for done, ask in enumerate(asks):
        progress("reading", done, len(asks))
        started = datetime.datetime.now(datetime.UTC)
        reading = source.read(ask)
        facts = Staged(ask.relation, reading.facts, home)
        reading = replace(reading, facts=(), source=name)
        if not facts.count and (name, ask.relation) not in known:
            what = f"{name} has no current statement of {ask.relation}"
            if ask.partial:
                what += " in the part that --class, --subjects, --limit and --min-sitelinks choose"
            if reading.skipped:
                what += f" that kbsync can use ({'; '.join(reading.skipped)})"
            told = f"{what}: check the relation's id and the options; nothing was recorded"
            raise _NothingFoundError(told, query=reading.query)
        reads.append(_Read(ask, reading, facts, started, *_missing(home, source, ask, reading, facts)))
    progress("reading", len(asks), len(asks))
    return reads


def _record(
    home: Path, ledger: Ledger, read: _Read, state: FileState, templates: Templates
) -> tuple[Pulled, PullCounts]:
    ask, reading, template = read.ask, read.reading, templates.get(read.ask.relation)
    outside = [
        Skipped(row.subject_key, row.subject_label, row.object_label, f"{OUTSIDE} ({scope_text(ask)})")
        for row in read.missing
        if (row.subject_key, row.object_key) in read.outside
    ]
    pull = NewPull(
        source=reading.source,
        relation=ask.relation,
        started=read.started,
        query=reading.query,
        withdraw=state.part.keys if state.part else _withdraw(ledger, read),
        rest_unchanged=state.part is not None,
        as_of=ask.as_of,
        scope=scope_of(ask),
        nameless=reading.nameless,
        skipped=[*reading.left_out, *outside],
    )
    counts = record_pull(ledger, pull, read.facts)
    if reading.aliases and record_aliases(ledger, reading.source, reading.aliases):
        counts = replace(counts, repeats=None)
    about = (counts.pull, reading.source, ask.relation, template.label if template else None)
    facts = (counts.new, counts.changed, counts.withdrawn, counts.unchanged, counts.conflicting)
    read_beside = (sum(map(len, (reading.aliases or {}).values())), read.facts.worded)
    notes, changed = (*reading.skipped, *state.notes(ask.relation)), Changes(home, counts.pull)
    pulled = Pulled(
        *about, *facts, *read_beside, notes, changed, ask.as_of, counts.relabelled, scope_of(ask), ask.by_default
    )
    return pulled, counts


def _withdraw(ledger: Ledger, read: _Read) -> Literal["all", "none"] | frozenset[str]:
    """Say of which subjects a missing fact is withdrawn: of those, and only those, that the pull asked for.

    A limit leaves open whether a subject was asked for.
    """
    ask = read.ask
    if ask.limit is not None:
        return "none"
    if ask.narrowed:
        return frozenset(row.subject_key for row in read.missing)
    if ask.subjects is None:
        return "all"
    return frozenset(row.subject_key for row in _named(unread(ledger, read.reading.source, read.facts), ask))


def _named(rows: Sequence[FactRow], ask: Ask) -> Sequence[FactRow]:
    """Return the facts of the subjects that `ask` names (all where it names none).

    A label names the subject that bears it letter by letter, as a source looks it up so.
    """
    if ask.subjects is None:
        return rows
    ids = {short_id(iri_of(subject) or subject) for subject in ask.subjects}
    labels = set(ask.subjects)
    return [row for row in rows if row.subject_id in ids or row.subject_label in labels]


def _missing(
    home: Path, source: "Source | ChangedPart", ask: Ask, reading: Reading, facts: Staged
) -> tuple[tuple[FactRow, ...], frozenset[tuple[str, str]]]:
    """Return the facts whose subjects left the class or sitelinks of `ask`, and which of them the source still states.

    A subject was in there if the pull that saw it last asked for no wider part. The source is asked for them by name.
    """
    if not ask.narrowed or ask.limit is not None or not (home / "ledger.db").exists():
        return (), frozenset()
    with Ledger.open(home) as ledger:
        scopes = {pull.id: pull.scope or {} for pull in ledger.pulls() if pull.relation == ask.relation}
        rows = _named(unread(ledger, reading.source, facts), ask)

    def within(scope: Mapping[str, Any]) -> bool:
        enough = ask.min_sitelinks is None or ask.min_sitelinks <= scope.get("min_sitelinks", -1)
        return enough and ask.class_id in (None, scope.get("class"))

    named = (row for row in rows if (row.subject_key, row.object_key) not in reading.nameless)
    gone = tuple(row for row in named if within(scopes[row.last_seen]))
    if not gone:
        return (), frozenset()
    names = tuple(dict.fromkeys(row.subject_id or row.subject_label for row in gone))
    again = source.read(replace(ask, class_id=None, min_sitelinks=None, subjects=names, aliases=False))
    stated = {(fact.subject.key, fact.object.key) for fact in again.facts} | again.nameless
    return gone, frozenset(stated & {(row.subject_key, row.object_key) for row in gone})
