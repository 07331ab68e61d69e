"""``kbsync status``: the diff between knowledge base, ledger and model, and the last figures."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kbsync.cli.choices import CheckOption, ProbeOption, RelationsOption
from kbsync.cli.options import Options, command, family, leave
from kbsync.report.console import emit, emit_text, show
from kbsync.report.plan import status_json, status_view
from kbsync.report.progress import progress
from kbsync.sync.home import AS_STORED, Loading

app = family()

EXAMPLES = (
    "kbsync status",
    "kbsync status --model gpt-j --check",
    "kbsync status --format html --to report.html",
)


class Format(StrEnum):
    """What a status is written as."""

    table = "table"
    json = "json"
    markdown = "markdown"
    html = "html"


@command(app, "status", examples=EXAMPLES)
def status(
    options: Options,
    model: Annotated[str | None, typer.Option("--model", metavar="M", help="Which model.  [the one used last]")] = None,
    relation: RelationsOption = None,
    probe: ProbeOption = False,
    check: CheckOption = False,
    form: Annotated[Format, typer.Option("--format", help="What to write; html is one file.")] = Format.table,
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="Write a page here, not to stdout.")] = None,
    loading: Loading = AS_STORED,
) -> None:
    """Show the diff between knowledge base, ledger and model, and the last figures."""
    options.json = options.json or form is Format.json
    paged = form in (Format.markdown, Format.html)
    if paged and (probe or options.json):
        raise typer.BadParameter("a page takes neither --probe nor --json", param_hint="--format")
    if to is not None and not paged:
        raise typer.BadParameter("only --format markdown and html are written to a file", param_hint="--to")
    from kbsync.sync.home import model_name
    from kbsync.sync.status import Status, last_batch, long_status_for, status_at_a_glance, used_model

    if probe:
        from kbsync.sync.answers import probed_plan

        with progress(quiet=options.json) as report:
            found = probed_plan(
                options.home, model or used_model(options.home), relation, loading=loading, progress=report
            )
        result = Status(found, *last_batch(options.home, found.model))
        show(result, status_view, status_json, as_json=options.json)
        in_sync = found.in_sync
    elif paged:
        from kbsync.report.page import status_page
        from kbsync.sync.history import history

        with long_status_for(options.home, model and model_name(model, options.home), relation) as long:
            past = history(options.home, long.plan.model) if long.batch else None
            emit_text(status_page(long, past, "html" if form is Format.html else "markdown"), to)
            in_sync = long.plan.in_sync
    elif options.json:
        with long_status_for(options.home, model and model_name(model, options.home), relation) as long:
            emit(status_json(long), lambda _: "", as_json=True)
            in_sync = long.plan.in_sync
    else:
        glance = status_at_a_glance(options.home, model and model_name(model, options.home), relation)
        emit(glance, status_view, as_json=False)
        in_sync = glance.plan.in_sync
    leave(in_sync, check)
