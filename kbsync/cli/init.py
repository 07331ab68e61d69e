"""``kbsync init``: a commented project file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from kbsync.cli.options import Options, command, family
from kbsync.project import write_project
from kbsync.report.console import emit

app = family()

EXAMPLES = ("kbsync init", "kbsync init --model practice --source facts.yaml --relation P36")


@command(app, "init", examples=EXAMPLES)
def init(
    options: Options,
    model: Annotated[
        str | None, typer.Option("--model", metavar="M", help="A preset, a hub id, a folder, or a GGUF file.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="S", help="wikidata, an endpoint's URL, or a file.  [wikidata]")
    ] = None,
    relation: Annotated[
        list[str] | None, typer.Option("--relation", metavar="ID", help="What to read, such as P36; again for more.")
    ] = None,
    export: Annotated[
        str | None, typer.Option("--export", metavar="DIR", help="A folder that each sync exports the model to.")
    ] = None,
) -> None:
    """Write kbsync.yaml into this folder, with comments; asks for what the options leave open."""
    model = model or ask("--model", "Model (a preset, hub id, folder or GGUF file)")
    source = source or (ask("--source", "Source (wikidata, URL or file)") if relation is None else "wikidata")
    relations = relation or ask("--relation", "Relations (such as P36, P6)").replace(",", " ").split()
    file = write_project(Path(), model, source, relations, export)
    emit({"file": file}, lambda done: f"{done['file']} written: edit it, then run `kbsync sync`", as_json=options.json)


def ask(option: str, question: str) -> str:
    """Return the user's answer; where nobody is there to answer, say which option is missing."""
    if not sys.stdin.isatty():
        raise typer.BadParameter("name it, as there is no terminal to ask on", param_hint=option)
    return str(typer.prompt(question, err=True))
