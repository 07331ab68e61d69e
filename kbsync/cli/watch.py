"""``kbsync watch``: follow a stream of changes, and sync what it touches."""

import re
import signal
from threading import Event
from typing import Annotated

import typer

from kbsync.cli.choices import ContactOption
from kbsync.cli.options import Options, command, family
from kbsync.errors import SettingsError
from kbsync.report.console import log_console, show
from kbsync.report.progress import progress
from kbsync.report.sync import synced_json, synced_view
from kbsync.report.tables import plain
from kbsync.sync.home import AS_STORED, Loading

app = family()

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
    from kbsync.sync.watch import Pace
    from kbsync.sync.watch import watch as workflow

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
