"""``kbsync doctor``: whether this machine can edit a model, and how long it would take."""

from typing import Annotated

import typer

from kbsync.cli.choices import ModelOption
from kbsync.cli.options import Options, command, family
from kbsync.report.console import show
from kbsync.report.models import diagnosis_json, diagnosis_view
from kbsync.report.progress import progress
from kbsync.sync.home import AS_STORED, Loading

app = family()


@command(app, "doctor", examples=("kbsync doctor --model practice", "kbsync doctor --model gpt-j --edits 10000"))
def doctor(
    options: Options,
    model: ModelOption,
    edits: Annotated[int, typer.Option("--edits", metavar="N", min=1, help="Number of edits to plan for.")] = 1000,
    loading: Loading = AS_STORED,
) -> None:
    """Check whether a model can be edited here: loading, memory, time, and its tokenizer on difficult subjects.

    Exits with 1 if something cannot work. Writes nothing.
    """
    from kbsync.sync.doctor import doctor as workflow

    with progress(quiet=options.json) as report:
        found = workflow(options.home, model, edits, loading=loading, progress=report)
    show(found, diagnosis_view, diagnosis_json, as_json=options.json)
    if not found.works:
        raise typer.Exit(1)
