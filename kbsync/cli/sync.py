"""``kbsync init`` and ``config``, the project file; ``sync`` and ``watch``, all that it names in one command."""

import json
import re
import signal
import sys
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from kbsync.cli.choices import CheckOption, ContactOption, option
from kbsync.cli.options import DEFAULT_HOME, Options, command, family, leave
from kbsync.cli.status import FormatOption, ToOption, emit_page, takes_page
from kbsync.errors import SettingsError
from kbsync.project import FILE_NAME, SCHEMA, find_project, read_project, write_project
from kbsync.report.console import emit, progress, table, tell
from kbsync.report.pull import synced_json, synced_view
from kbsync.sync.home import AS_STORED, Loading

app = family()
SYNC_PAGE = "kbsync sync --format html --to report.html"


@command(app, "sync", examples=("kbsync sync", "kbsync sync --dry-run --check", SYNC_PAGE))
def sync(
    options: Options,
    dry_run: Annotated[
        bool, option("--dry-run", "Pull into a copy of the ledger, show what there is to do, write nothing.")
    ] = False,
    check: CheckOption = False,
    accept_withdrawals: Annotated[bool, option("--accept-withdrawals", "Go on however much is withdrawn.")] = False,
    contact: ContactOption = None,
    form: FormatOption = "table",
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
    from kbsync.sync.status import diff_for, last_batch

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
                emit_page(done.home, {"plan": found, **last_batch(done.home, done.model)}, form, to)
        else:
            emit(done, synced_view, synced_json, as_json=options.json)
        in_sync = done.in_sync
    leave(in_sync, check)


SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@command(app, "watch", examples=("kbsync watch", "kbsync watch --every 15m --at-least 10"))
def watch(
    options: Options,
    every: Annotated[str, option("--every TIME", "Sync once in this time at most.")] = "15m",
    at_least: Annotated[int, option("--at-least N", "Sync where N entities or more have changed.", min=1)] = 1,
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
                tell(f"Error: {text}")

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
                emit(done, synced_view, synced_json, as_json=options.json)
    finally:
        signal.signal(signal.SIGTERM, before)


def seconds(text: str) -> float:
    """Return the seconds of a time such as 15m; raises SettingsError for another text."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", text)
    if found is None:
        raise SettingsError(f"--every {text!r}: write a number and s, m, h or d, such as 15m")
    return float(found[1]) * SECONDS[found[2]]


config_app = family("The project file kbsync.yaml: what holds and why, and its JSON schema.")


@command(config_app, "show", examples=("kbsync config show", "kbsync config show --json"))
def show_config(options: Options) -> None:
    """Show what holds here and where each value comes from: flag, environment, file, preset, or default."""
    from kbsync.sync.home import origins

    file = find_project(Path())
    project = read_project(file) if file else None
    home = None if options.home is DEFAULT_HOME else options.home
    rows = list(origins(project, home, flag=options.home_named))
    title = str(file or f"no {FILE_NAME} here or above")
    emit(
        {"file": file, "values": [dict(zip(("name", "value", "origin"), row, strict=True)) for row in rows]},
        lambda _: table(("name", "value", "from"), rows, title=title),
        as_json=options.json,
    )


@command(config_app, "check", examples=("kbsync config check",))
def check(options: Options) -> None:
    """Check the project file: every problem with its line and column."""
    file = find_project(Path())
    if file is None:
        raise SettingsError(f"no {FILE_NAME} here or in a folder above: `kbsync init` writes one")
    project = read_project(file)
    emit(
        {"file": file, "sources": len(project.sources)},
        lambda found: f"{found['file']}: good; {found['sources']} sources",
        as_json=options.json,
    )


@command(config_app, "schema", examples=("kbsync config schema",))
def schema(options: Options) -> None:
    """Print the file's JSON schema, by which editors check and complete it."""
    print(json.dumps(SCHEMA, indent=2))


init_app = family()

INIT_EXAMPLES = ("kbsync init", "kbsync init --model practice --source facts.yaml --relation P36")


@command(init_app, "init", examples=INIT_EXAMPLES)
def init(
    options: Options,
    model: Annotated[str | None, option("--model M", "A preset, a hub id, a folder, or a GGUF file.")] = None,
    source: Annotated[str | None, option("--source S", "wikidata, an endpoint's URL, or a file.  [wikidata]")] = None,
    relation: Annotated[list[str] | None, option("--relation ID", "What to read, such as P36; again for more.")] = None,
    export: Annotated[str | None, option("--export DIR", "A folder that each sync exports the model to.")] = None,
) -> None:
    """Write kbsync.yaml into this folder, with comments; asks for what the options leave open."""
    model = model or ask("--model", "Model (a preset, hub id, folder or GGUF file)")
    source = source or (ask("--source", "Source (wikidata, URL or file)") if relation is None else "wikidata")
    relations = relation or ask("--relation", "Relations (such as P36, P6)").replace(",", " ").split()
    file = write_project(Path(), model, source, relations, export)
    emit({"file": file}, lambda done: f"{done['file']} written: edit it, then run `kbsync sync`", as_json=options.json)


def ask(option: str, question: str) -> str:
    """Return the user's answer; where nobody is there to answer, say which option is missing."""
    if not sys.stdin.isatty():
        raise typer.BadParameter("name it, as there is no terminal to ask on", param_hint=option)
    return str(typer.prompt(question, err=True))
