"""One command a day: pull every source of a project, apply what changed, check the result, export it.

Watch: follow a stream of changes, and sync what it touches; a full pull once a day reads what it lost.
"""

import datetime
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event as Flag
from typing import Any

from kbsync.errors import KbsyncError, LedgerError, SettingsError
from kbsync.ledger import BatchRow, Ledger
from kbsync.ledger.facts import object_subjects, subject_base
from kbsync.ledger.pages import find_stream, record_stream
from kbsync.memit.settings import MemitSettings, settings_on_record
from kbsync.project import Project
from kbsync.sources import check_address, is_wikidata, read_subjects
from kbsync.sources.base import Access
from kbsync.sources.stream import Follower, Touched, touched_by
from kbsync.sync.guards import read_canaries
from kbsync.sync.home import AS_STORED, Loading, Progress, model_name
from kbsync.sync.pull import MAX_WITHDRAWN, Pulled, pull, withdraw_rest
from kbsync.sync.reading import make_asks
from kbsync.sync.status import Overview, last_batch, overview_for


@dataclass(frozen=True, slots=True)
class Synced:
    """What a sync did. `plan` is what there was to do after the pulls; nothing was written in a `dry_run`."""

    home: Path
    """the project's; that of the copy in a dry run"""
    model: str
    pulls: tuple[Pulled, ...]
    plan: Overview
    applied: Mapping[str, Any] | None = None
    checked: int = 0
    """items that `verify` found as recorded, after an apply"""
    exported: Path | None = None
    probed: Mapping[str, int] | None = None
    """how a sample of the edits is answered by the exported files"""
    dry_run: bool = False

    @property
    def in_sync(self) -> bool:
        return self.plan.in_sync


def pull_sources(
    project: Project,
    progress: Progress,
    *,
    home: Path | None = None,
    contact: str | None = None,
    accept_withdrawals: bool = False,
    touched: Mapping[int, Sequence[str]] | None = None,
    only_news: bool = False,
) -> list[Pulled]:
    """Pull what each source of the project is asked for, one after the other; raises as `pull` does.

    What other sources stated earlier, which the project does not name (any more), is withdrawn. `touched` are the
    subjects to read alone, by the place of their source; the other sources are left out. With `only_news` a source that
    says nothing new leaves no trace.
    """
    if not project.sources:
        raise SettingsError(f"{project.file} has no sources: add some, or name --relation")
    home = home or project.home
    # All are checked before the first is read.
    asks = [make_asks(one.relations, one.source, home=home, **one.options) for one in project.sources]
    bound = project.bounds.get("max_withdrawn", MAX_WITHDRAWN)
    pulls = []
    for place, (source, asked) in enumerate(zip(project.sources, asks, strict=True)):
        if touched is not None:
            if not touched.get(place):
                continue
            asked = [replace(ask, subjects=tuple(touched[place]), everything=False) for ask in asked]
        pulls += pull(
            home,
            asked,
            source.source,
            progress,
            contact=contact,
            query=source.query,
            name=source.name,
            priority=source.priority,
            max_withdrawn=bound,
            accept_withdrawals=accept_withdrawals,
            only_news=only_news,
        )
    if touched is None:
        named = {(one.source, one.relation) for one in pulls}
        pulls += withdraw_rest(home, named, max_withdrawn=bound, accept_withdrawals=accept_withdrawals)
    return pulls


@contextmanager
def sync(
    project: Project,
    progress: Progress,
    *,
    contact: str | None = None,
    accept_withdrawals: bool = False,
    dry_run: bool = False,
    touched: Mapping[int, Sequence[str]] | None = None,
    loading: Loading = AS_STORED,
    remark: Callable[[str], None] = lambda text: None,
) -> Iterator[Synced]:
    """Bring the project's model in step with its sources; the state before stays where anything fails.

    Gives what was done; what the pulls changed can be read inside only.

    Safe to kill and to run again. A model is loaded only if there is something to do. With `dry_run` the pulls go into
    a copy of the ledger, so that nothing is written. `touched` is as in `pull_sources`. Raises as `pull`, `apply` and
    `export` do, and LedgerError where the ledger is not as recorded after an apply.
    """
    if project.model is None:
        raise SettingsError(f"{project.file} names no model: add `model: ...`, or name --model")
    with copied(project) if dry_run else nullcontext(project.home) as home:
        how: dict[str, Any] = {"contact": contact, "accept_withdrawals": accept_withdrawals, "touched": touched}
        pulls = tuple(pull_sources(project, progress, home=home, only_news=True, **how))
        name = model_name(project.model, home)
        plan = overview_for(home, name, inverse=project.inverse)
        if dry_run:
            yield Synced(home, name, pulls, plan, dry_run=True)
            return
    home = project.home
    applied, checked = None, 0
    # Edits that are not recalled (x) stay as they are until `apply --retry`.
    differs = any(count for sign, count in plan.counts.items() if sign in "+~-")
    if differs or other_settings(project, last_batch(home, name)["batch"]):
        from kbsync.sync.apply import ApplyOptions, apply
        from kbsync.sync.verify import verify

        bounds = {name: bound for name, bound in project.bounds.items() if name != "max_withdrawn"}
        options = ApplyOptions(
            project.model,
            inverse=project.inverse,
            values=project.settings,
            loading=loading,
            corpus=project.corpus,
            bounds=bounds,
            canaries=read_canaries(project.canaries),
            tasks=project.tasks,
        )
        applied = apply(home, options, lambda proposal: True, progress, remark)
        checks = verify(home)["checks"]
        if faults := [fault for check in checks for fault in check["faults"]]:
            raise LedgerError(f"after the apply the ledger is not as recorded: {faults[0]}; see `kbsync verify`")
        checked = sum(check["checked"] for check in checks)
    exported, probed = None, None
    if (to := project.export) and (applied is not None or not to.exists()) and last_batch(home, name)["batch"]:
        exported, probed = to, _export(project, project.model, to, loading)
    yield Synced(home, name, pulls, plan, applied, checked, exported, probed)


def other_settings(project: Project, batch: BatchRow | None) -> bool:
    """Tell whether the current batch was made with settings other than the project's."""
    made_with = MemitSettings().with_values(settings_on_record(batch.settings) if batch else {})
    return batch is not None and made_with.with_values(project.settings) != made_with


def _export(project: Project, model: str, target: Path, loading: Loading) -> Mapping[str, int]:
    """Write the edited model in place of the last export, once its files have been asked for a sample of the edits."""
    from kbsync.sync.export import Form, export, probe

    if target.exists() and not (target / "kbsync.json").exists():
        raise SettingsError(f"{project.file}: export.to: {target} is no export of kbsync's: name another folder")
    before = target.with_name(f".{target.name}.before")
    new = target.with_name(f".{target.name}.new")
    for leftover in (before, new):
        shutil.rmtree(leftover, ignore_errors=True)
    export(project.home, model, new, Form(**project.form), loading=loading)
    try:
        probed = probe(project.home, model, new, loading=loading)
    except KbsyncError:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if target.exists():
        target.rename(before)
    new.rename(target)
    shutil.rmtree(before, ignore_errors=True)
    return probed


@contextmanager
def copied(project: Project) -> Iterator[Path]:
    """Give a copy of the project's home, without its tensors."""
    with tempfile.TemporaryDirectory(prefix="kbsync-dry-run-") as folder:
        home, ledger = Path(folder), project.home / "ledger.db"
        if ledger.exists():
            with (
                closing(sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True)) as source,
                closing(sqlite3.connect(home / "ledger.db")) as target,
            ):
                source.backup(target)
        for name in ("templates", "presets"):
            if (project.home / name).is_dir():
                shutil.copytree(project.home / name, home / name)
        yield home


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
        now, last = datetime.datetime.now(datetime.UTC), self.reconciled
        return last is None or now - datetime.datetime.fromisoformat(last) >= self.pace.reconcile

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
        streamed = [(place, one) for place, one in enumerate(self.project.sources) if one.stream == self.url]
        with Ledger.open(self.project.home) as ledger:
            for place, source in streamed:
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
    later, with what has changed since.
    """
    streams: Sequence[str] = list(dict.fromkeys(one.stream for one in project.sources if one.stream))
    if len(streams) != 1:
        what = "names several streams: watch one" if streams else "names no stream: add `stream: URL` to a source"
        raise SettingsError(f"{project.file} {what}")
    url = check_address(streams[0], "stream")
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
                    how: dict[str, Any] = {"contact": contact, "loading": loading, "remark": remark}
                    with sync(project, progress, touched=None if whole else state.subjects(), **how) as done:
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
