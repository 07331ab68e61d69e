"""``kbsync export``: the edited model, handed on."""

from pathlib import Path
from typing import Annotated

import typer

from kbsync.cli.choices import ModelOption
from kbsync.cli.options import Options, command, family
from kbsync.report.console import emit
from kbsync.report.tables import plain
from kbsync.sync.home import AS_STORED, Loading

app = family()


@command(app, "export", examples=("kbsync export --model practice --to edited-model",))
def export(
    options: Options,
    model: ModelOption,
    folder: Annotated[Path, typer.Option("--to", metavar="DIR", help="A new folder for the checkpoint.")],
    loading: Loading = AS_STORED,
) -> None:
    """Write the edited model as a checkpoint that AutoModelForCausalLM.from_pretrained opens."""
    from kbsync.sync.export import export as workflow

    exported = workflow(options.home, model, folder, loading=loading)
    emit(
        exported,
        lambda done: plain(f"{done.folder}: {done.model} with {done.edits} edits (batch {done.batch}), {done.dtype}"),
        as_json=options.json,
    )
