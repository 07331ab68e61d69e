"""``kbsync sync`` and ``watch``: everything from pull to export, once a day or after each change."""

import re
import signal
from threading import Event
from typing import Annotated

import typer

from kbsync.cli.choices import CheckOption, ContactOption
from kbsync.cli.options import Options, command, family, leave
from kbsync.cli.status import Format, FormatOption, ToOption, emit_page, takes_page
from kbsync.errors import SettingsError
from kbsync.report.console import log_console, plain, progress, show
from kbsync.report.pull import synced_json, synced_view
from kbsync.sync.home import AS_STORED, Loading

app = family()
SYNC_PAGE = "kbsync sync --format html --to report.html"


@command(app, "sync", examples=("kbsync sync", "kbsync sync --dry-run --check", SYNC_PAGE))
def sync(
    options: Options,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Pull into a copy of the ledger, show what there is to do, write nothing.")
    ] = False,
    check: CheckOption = False,
    accept_withdrawals: Annotated[
        bool, typer.Option("--accept-withdrawals", help="Go on however much is withdrawn.")
    ] = False,
    contact: ContactOption = None,
    form: FormatOption = Format.table,
    to: ToOption = None,
    loading: Loading = AS_STORED,
) -> None:
    """Pull all sources of kbsync.yaml, apply what changed, check the result, and export it.

    It asks nothing, so that it fits a scheduler, and is safe to kill and to run again. Where nothing changed, no model
    is loaded. If it fails, the state before stays and the exit code is 1; 3 where a source withdraws too much, or where
    --check found something to do.
    """
    paged = takes_page(options, form, to)
    from kbsync.sync.daily import sync as workflow
    from kbsync.sync.status import Status, diff_for, last_batch

    with (
        progress(quiet=options.json, verbose=options.verbose) as report,
        workflow(
            options.require_project(),
            report,
            contact=contact,
            accept_withdrawals=accept_withdrawals,
            dry_run=dry_run,
            loading=loading,
            remark=report.remark,
        ) as done,
    ):
        report.pause()
        if paged:
            with diff_for(done.home, done.model, whole=True) as found:
                emit_page(done.home, Status(found, *last_batch(done.home, done.model)), form, to)
        else:
            show(done, synced_view, synced_json, as_json=options.json)
        in_sync = done.in_sync
    leave(in_sync, check)


SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@command(app, "watch", examples=("kbsync watch", "kbsync watch --every 15m --at-least 10"))
def watch(
    options: Options,
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="Sync once in this time at most.")] = "15m",
    at_least: Annotated[
        int, typer.Option("--at-least", metavar="N", min=1, help="Sync where N entities or more have changed.")
    ] = 1,
    contact: ContactOption = None,
    loading: Loading = AS_STORED,
) -> None:
    """Follow the stream of changes that kbsync.yaml names, and sync what it touches.

    Reads Wikimedia's EventStreams (recentchange, and RDF change streams). What has changed is pulled by name, and
    synced as `kbsync sync` does. As streams lose events, all is pulled once a day, at the beginning too. Goes on from
    the last event that was synced. SIGTERM ends it after the sync at hand.
    """
    from kbsync.sync.daily import Pace
    from kbsync.sync.daily import watch as workflow

    stop = Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        with progress(quiet=options.json, verbose=options.verbose) as report:

            def trouble(text: str) -> None:
                report.pause()
                log_console().print(plain(f"Error: {text}"))

            for done in workflow(
                options.require_project(),
                report,
                Pace(seconds(every), at_least),
                stop,
                contact=contact,
                loading=loading,
                remark=report.remark,
                trouble=trouble,
            ):
                report.pause()
                show(done, synced_view, synced_json, as_json=options.json)
    finally:
        signal.signal(signal.SIGTERM, before)


def seconds(text: str) -> float:
    """Return the seconds of a time such as 15m; raises SettingsError for another text."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", text)
    if found is None:
        raise SettingsError(f"--every {text!r}: write a number and s, m, h or d, such as 15m")
    return float(found[1]) * SECONDS[found[2]]
