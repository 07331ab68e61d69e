"""``kbsync plan`` and ``kbsync status``: the diff between knowledge base, ledger and model."""

from typing import Annotated

import typer

from kbsync.cli.choices import (
    DIFFERENCE,
    CheckOption,
    ConflictPolicy,
    ModelOption,
    OnConflictOption,
    ProbeOption,
    RelationsOption,
)
from kbsync.cli.options import Options, command, family
from kbsync.report.console import emit, show
from kbsync.report.plan import plan_json, plan_view, status_json, status_view
from kbsync.report.progress import progress
from kbsync.sync.loading import AS_STORED, Loading

app = family()


@command(app, "plan", examples=("kbsync plan --model practice", "kbsync plan --model gpt-j --relation P35 --probe"))
def plan(
    options: Options,
    model: ModelOption,
    relation: RelationsOption = None,
    on_conflict: OnConflictOption = ConflictPolicy.out,
    include_known: Annotated[
        bool, typer.Option("--include-known", help="Edit facts that the base model knows, too.")
    ] = False,
    probe: ProbeOption = False,
    check: CheckOption = False,
    loading: Loading = AS_STORED,
) -> None:
    """Show what an apply would do, and why. Writes no weights."""
    from kbsync.sync.names import model_name
    from kbsync.sync.overview import long_plan_for, overview_for

    if probe:
        from kbsync.sync.probe import probed_plan

        with progress(quiet=options.json) as report:
            result = probed_plan(
                options.home,
                model,
                relation,
                on_conflict.value,
                include_known=include_known,
                loading=loading,
                progress=report,
            )
        show(result, plan_view, plan_json, as_json=options.json)
        in_sync = result.in_sync
    elif options.json:
        named = model_name(model, options.home)
        with long_plan_for(options.home, named, relation, on_conflict.value, include_known) as long:
            emit(plan_json(long), lambda _: "", as_json=True)
            in_sync = long.in_sync
    else:
        glance = overview_for(options.home, model_name(model, options.home), relation, on_conflict.value, include_known)
        emit(glance, plan_view, as_json=False)
        in_sync = glance.in_sync
    _leave(in_sync, check)


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
    from kbsync.sync.names import model_name
    from kbsync.sync.status import Status, last_batch, long_status_for, status_at_a_glance, used_model

    if probe:
        from kbsync.sync.probe import probed_plan

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
    _leave(in_sync, check)


def _leave(in_sync: bool, check: bool) -> None:
    if check and not in_sync:
        raise typer.Exit(DIFFERENCE)
