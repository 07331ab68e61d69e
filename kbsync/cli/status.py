"""``kbsync status``: the diff between knowledge base, ledger and model, and the last figures."""

from typing import Annotated

import typer

from kbsync.cli.choices import CheckOption, ProbeOption, RelationsOption
from kbsync.cli.options import Options, command, family, leave
from kbsync.report.console import emit, show
from kbsync.report.plan import status_json, status_view
from kbsync.report.progress import progress
from kbsync.sync.home import AS_STORED, Loading

app = family()


@command(app, "status", examples=("kbsync status", "kbsync status --model gpt-j --check"))
def status(
    options: Options,
    model: Annotated[str | None, typer.Option("--model", metavar="M", help="Which model.  [the one used last]")] = None,
    relation: RelationsOption = None,
    probe: ProbeOption = False,
    check: CheckOption = False,
    loading: Loading = AS_STORED,
) -> None:
    """Show the diff between knowledge base, ledger and model, and the last figures."""
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
    elif options.json:
        with long_status_for(options.home, model and model_name(model, options.home), relation) as long:
            emit(status_json(long), lambda _: "", as_json=True)
            in_sync = long.plan.in_sync
    else:
        glance = status_at_a_glance(options.home, model and model_name(model, options.home), relation)
        emit(glance, status_view, as_json=False)
        in_sync = glance.plan.in_sync
    leave(in_sync, check)
