"""``kbsync templates``: the wordings of each relation."""

from pathlib import Path
from typing import Annotated

import typer

from kbsync.cli.options import Options, command, family
from kbsync.report.console import emit
from kbsync.report.templates import checked_view, template_view, templates_view

app = family("The wordings of each relation; your own, in the home's templates/, come first.")


@command(app, "list", examples=("kbsync templates list", "kbsync templates list --json"))
def list_templates(options: Options) -> None:
    """List the relations that have a template."""
    from kbsync.workflows.templates import templates_for

    emit({"templates": list(templates_for(options.home))}, templates_view, as_json=options.json)


@command(app, "show", examples=("kbsync templates show P17",))
def show(
    options: Options,
    relation: Annotated[str, typer.Argument(help="A relation's id, such as P17.")],
) -> None:
    """Show a relation's prompt, paraphrases and question."""
    from kbsync.workflows.templates import templates_for

    emit(templates_for(options.home).require(relation), template_view, as_json=options.json)


@command(app, "check", examples=("kbsync templates check my-relations.yaml",))
def check(
    options: Options,
    file: Annotated[Path, typer.Argument(help="A template file (YAML).")],
) -> None:
    """Check a template file, and that its prompts are no other relation's; every bad entry is named with its line."""
    from kbsync.workflows.templates import check_templates

    emit({"file": file, "templates": check_templates(options.home, file)}, checked_view, as_json=options.json)
