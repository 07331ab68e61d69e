"""``kbsync sync``: all that a project needs in a day, as one command."""

from typing import Annotated

import typer

from kbsync.cli.choices import CheckOption, ContactOption
from kbsync.cli.options import Options, command, family, leave
from kbsync.cli.status import Format, FormatOption, ToOption, emit_page, takes_page
from kbsync.report.console import show
from kbsync.report.progress import progress
from kbsync.report.sync import synced_json, synced_view
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
