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
from kbsync.report.console import show
from kbsync.report.plan import plan_json, plan_view, status_json, status_view
from kbsync.report.progress import progress
from kbsync.workflows.loading import AS_STORED, Loading

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
    if probe:
        from kbsync.workflows.probe import probed_plan

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
    else:
        from kbsync.workflows.names import model_name
        from kbsync.workflows.plan import plan_for

        result = plan_for(options.home, model_name(model, options.home), relation, on_conflict.value, include_known)
    show(result, plan_view, plan_json, as_json=options.json)
    if check and not result.in_sync:
        raise typer.Exit(DIFFERENCE)


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
    from kbsync.workflows.status import last_batch, status_for

    if probe:
        from kbsync.workflows.probe import probed_plan
        from kbsync.workflows.status import Status, used_model

        name = model or used_model(options.home)
        with progress(quiet=options.json) as report:
            found = probed_plan(options.home, name, relation, loading=loading, progress=report)
        result = Status(found, *last_batch(options.home, found.model))
    else:
        from kbsync.workflows.names import model_name

        result = status_for(options.home, model and model_name(model, options.home), relation)
    show(result, status_view, status_json, as_json=options.json)
    if check and not result.plan.in_sync:
        raise typer.Exit(DIFFERENCE)
