"""Watch: follow a stream of changes, and sync what it touches; a full pull once a day reads what it lost."""

import datetime
import re
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from threading import Event as Flag

from kbsync.errors import KbsyncError, SettingsError
from kbsync.ledger import Ledger
from kbsync.ledger.facts import object_subjects, subject_base
from kbsync.ledger.pages import find_stream, record_stream
from kbsync.project import Project
from kbsync.sources import check_address, is_wikidata, read_subjects
from kbsync.sources.base import Access
from kbsync.sources.stream import Follower, Touched, touched_by
from kbsync.sync.daily import Synced, sync
from kbsync.sync.home import AS_STORED, Loading, Progress

DAY = datetime.timedelta(days=1)
LOOK = 0.5
"""seconds after which the flag that ends a watch is looked at"""
AFTER_FAULT = 30.0
"""seconds, at least, from a sync that failed to the next"""


@dataclass(frozen=True, slots=True)
class Pace:
    """When to sync: `every` so many seconds at most, where `at_least` so many entities wait; and all once a day."""

    every: float = 900.0
    at_least: int = 1
    reconcile: datetime.timedelta = DAY


@dataclass
class _Watch:
    project: Project
    url: str
    pace: Pace
    last: str | None
    """the last event that was taken"""
    reconciled: str | None
    waiting: dict[str, None] = field(default_factory=dict)
    """entities that have changed, the first to change first"""

    @property
    def relations(self) -> frozenset[str]:
        return frozenset(one for source in self.project.sources if source.stream for one in source.relations)

    def take(self, touched: Touched | None) -> None:
        """Put an entity among those that wait, where one of our relations or its label may have changed."""
        if touched is None:
            return
        wikibase = all(re.fullmatch(r"P[1-9]\d*", one) for one in self.relations)
        if touched.relations is None or not wikibase or touched.relations & self.relations:
            self.waiting[touched.entity] = None

    def wants_all(self) -> bool:
        if self.reconciled is None:
            return True
        since = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(self.reconciled)
        return since >= self.pace.reconcile

    def done(self, *, whole: bool) -> None:
        """Note on record that all events taken so far are synced."""
        if whole or self.reconciled is None:
            self.reconciled = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        self.waiting.clear()
        with Ledger.open(self.project.home) as ledger:
            record_stream(ledger, self.url, self.last, self.reconciled)

    def subjects(self) -> dict[int, list[str]]:
        """Return the subjects to read of each source: what has changed, and what names it as its object."""
        found = {}
        with Ledger.open(self.project.home) as ledger:
            for place, source in enumerate(self.project.sources):
                if source.stream != self.url:
                    continue
                known = source.name or source.source
                base = subject_base(ledger, known)
                ids = [base + entity if re.fullmatch(r"[QP]\d+", entity) else entity for entity in self.waiting]
                names = dict.fromkeys([*ids, *object_subjects(ledger, known, ids)])
                wanted = source.options.get("subjects_file")
                chosen = None if wanted is None else set(read_subjects(wanted))
                found[place] = [one for one in names if chosen is None or one in chosen]
        return found


def watch(
    project: Project,
    progress: Progress,
    pace: Pace,
    stop: Flag,
    *,
    contact: str | None = None,
    loading: Loading = AS_STORED,
    remark: Callable[[str], None] = lambda text: None,
    trouble: Callable[[str], None] = lambda text: None,
) -> Generator[Synced, None, None]:
    """Yield what each sync did, until `stop` is set; then it ends after the sync at hand.

    Begins with a full sync where there was none for a day. A sync that fails is told to `trouble` and tried again,
    later, with what has changed since. Raises as `sync` does where the first one fails, and SourceError where the
    stream cannot be followed.
    """
    url = stream_of(project)
    last, reconciled = None, None
    if (project.home / "ledger.db").exists():
        with Ledger.open(project.home) as ledger:
            last, reconciled = find_stream(ledger, url)
    state = _Watch(project, url, pace, last, reconciled)
    hosts = ["www.wikidata.org" if is_wikidata(one.source) else None for one in project.sources if one.stream]
    follower = Follower(url, last, Access(contact, progress=progress))
    succeeded, due = False, time.monotonic()
    try:
        while not stop.is_set():
            whole = state.wants_all()
            if time.monotonic() >= due and (whole or len(state.waiting) >= pace.at_least):
                began = time.monotonic()
                try:
                    touched = None if whole else state.subjects()
                    with sync(
                        project, progress, contact=contact, touched=touched, loading=loading, remark=remark
                    ) as done:
                        state.done(whole=whole)
                        succeeded, due = True, began + pace.every
                        yield done
                except KbsyncError as error:
                    if not succeeded:
                        raise
                    trouble(str(error))
                    due = time.monotonic() + max(pace.every, AFTER_FAULT)
                continue
            event = follower.next(LOOK)
            if event is not None:
                state.last = event.id
                state.take(touched_by(event.data, hosts[0]))
    finally:
        follower.close()


def stream_of(project: Project) -> str:
    """Return the stream that a project names; raises SettingsError where that is none, several, or no address."""
    streams: Sequence[str] = list(dict.fromkeys(one.stream for one in project.sources if one.stream))
    if len(streams) != 1:
        what = "names no stream: add `stream: URL` to a source" if not streams else "names several streams: watch one"
        raise SettingsError(f"{project.file} {what}")
    return check_address(streams[0], "stream")
