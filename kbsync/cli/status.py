"""``kbsync plan`` and ``status``: the diff between knowledge base, ledger and model, and the last figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kbsync.cli.choices import (
    CheckOption,
    IncludeKnownOption,
    InverseOption,
    ModelOption,
    OnConflictOption,
    ProbeOption,
    RelationsOption,
    option,
)
from kbsync.cli.options import Options, command, family, leave
from kbsync.report.apply import plan_json, plan_view, status_json, status_view
from kbsync.report.console import emit, emit_text, progress
from kbsync.sync.home import AS_STORED, Loading

app = family()


@command(app, "plan", examples=("kbsync plan --model practice", "kbsync plan --model gpt-j --relation P35 --probe"))
def plan(
    options: Options,
    model: ModelOption,
    relation: RelationsOption = None,
    on_conflict: OnConflictOption = "out",
    include_known: IncludeKnownOption = False,
    compile_inverse: InverseOption = None,
    probe: ProbeOption = False,
    check: CheckOption = False,
    loading: Loading = AS_STORED,
) -> None:
    """Show what an apply would do, and why. Writes no weights."""
    from kbsync.sync.home import model_name
    from kbsync.sync.status import diff_for

    if probe:
        from kbsync.sync.answers import probed_plan

        with progress(quiet=options.json) as report:
            result = probed_plan(
                options.home,
                model,
                relation,
                on_conflict,
                include_known=include_known,
                inverse=compile_inverse,
                loading=loading,
                progress=report,
            )
        emit(result, plan_view, plan_json, as_json=options.json)
        leave(result.in_sync, check)
        return
    name = model_name(model, options.home)
    asked = (include_known, compile_inverse)
    with diff_for(options.home, name, relation, on_conflict, *asked, whole=options.json) as found:
        emit(found, plan_view, plan_json, as_json=options.json)
        leave(found.in_sync, check)


EXAMPLES = ("kbsync status", "kbsync status --model gpt-j --check", "kbsync status --format html --to report.html")


Format = Literal["table", "json", "markdown", "html"]
FormatOption = Annotated[Format, option("--format", "What to write; html is one file.")]
ToOption = Annotated[Path | None, option("--to FILE", "Write a page here, not to stdout.")]


def takes_page(options: Options, form: Format, to: Path | None) -> bool:
    """Return whether a page is asked for, after a look at whether the options go together."""
    options.json = options.json or form == "json"
    paged = form in ("markdown", "html")
    if paged and options.json:
        raise typer.BadParameter("a page takes no --json", param_hint="--format")
    if to is not None and not paged:
        raise typer.BadParameter("only --format markdown and html are written to a file", param_hint="--to")
    return paged


def emit_page(home: Path, status: Mapping[str, Any], form: Format, to: Path | None) -> None:
    from kbsync.report.apply import status_page
    from kbsync.sync.history import history
    from kbsync.sync.status import recent

    model = status["plan"].model
    past = history(home, model) if status["batch"] else None
    news = recent(home, model or None)
    emit_text(status_page(status, past, news, "html" if form == "html" else "markdown"), to)


@command(app, "status", examples=EXAMPLES)
def status(
    options: Options,
    model: Annotated[str | None, option("--model M", "The model.  [the one used last]")] = None,
    relation: RelationsOption = None,
    probe: ProbeOption = False,
    model_file: Annotated[
        str | None, option("--model-file FILE", "With --probe: ask this later model what it holds of the edits.")
    ] = None,
    check: CheckOption = False,
    form: FormatOption = "table",
    to: ToOption = None,
    loading: Loading = AS_STORED,
) -> None:
    """Show how knowledge base, ledger and model differ, and the last figures."""
    paged = takes_page(options, form, to)
    if paged and probe:
        raise typer.BadParameter("a page takes no --probe", param_hint="--format")
    if model_file is not None and not probe:
        raise typer.BadParameter("this names a model to ask: add --probe", param_hint="--model-file")
    from kbsync.sync.home import model_name
    from kbsync.sync.status import diff_for, last_batch, used_model

    home, inverse = options.home, options.project.inverse if options.project else None
    if probe:
        from kbsync.sync.answers import probed_file, probed_plan

        asked = model or used_model(home)
        with progress(quiet=options.json) as report:
            if model_file is None:
                plan = probed_plan(home, asked, relation, inverse=inverse, loading=loading, progress=report)
            else:
                plan = probed_file(home, asked, model_file, relation, loading=loading, progress=report)
        emit({"plan": plan, **last_batch(home, plan.model)}, status_view, status_json, as_json=options.json)
        leave(plan.in_sync, check)
        return
    name = model and model_name(model, home)
    with diff_for(home, name, relation, inverse=inverse, whole=options.json or paged) as found:
        result = {"plan": found, **last_batch(home, name)}
        if paged:
            emit_page(home, result, form, to)
        else:
            emit(result, status_view, status_json, as_json=options.json)
        leave(found.in_sync, check)
