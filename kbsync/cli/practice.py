"""``kbsync practice`` and ``kbsync demo``: the small model that knows the fixtures' facts, and data sets for it."""

from pathlib import Path
from typing import Annotated

import typer

from kbsync.cli.choices import ModelOption
from kbsync.cli.options import Options, command, family
from kbsync.report.console import emit, progress, table
from kbsync.report.pull import demo_view

app = family()
group = family("The practice model: a small GPT-J that knows the fixtures' facts.")
app.add_typer(group, name="practice")


@command(group, "train", examples=("kbsync practice train --to my-practice-model",))
def train(
    options: Options, folder: Annotated[Path, typer.Option("--to", metavar="DIR", help="A new folder for the model.")]
) -> None:
    """Train the practice model on the fixtures' earlier edition: under an hour on 2 cores."""
    from kbsync.sync.practice import train_practice

    with progress(quiet=options.json) as report:
        card = train_practice(folder, report)
    emit(card, lambda made: table(("", ""), [(name, str(value)) for name, value in made.items()]), as_json=options.json)


@command(group, "datasets", examples=("kbsync practice datasets --to fixtures",))
def datasets(
    options: Options,
    folder: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder for the two JSON files.")],
) -> None:
    """Make data sets in CounterFact's and zsRE's forms from the fixtures' earlier edition."""
    from kbsync.sync.practice import write_datasets

    written = write_datasets(folder)
    emit(written, lambda made: table(("file", "records"), list(made.items())), as_json=options.json)


@command(app, "demo", examples=("kbsync demo", "kbsync demo --model smollm2-135m"))
def demo(
    options: Options,
    model: ModelOption = "practice",
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Edit at most N facts.")] = None,
) -> None:
    """Show everything in a temporary home: pull, plan, apply, status, answers before and after, and a retraction.

    Teaches the practice model about 250 facts of the fixtures, and any other model about 30 that changed recently.
    """
    from kbsync.sync.demo import demo as workflow

    with progress(quiet=options.json) as report:
        told = workflow(model, report, limit=limit)
    emit(told, demo_view, as_json=options.json)
