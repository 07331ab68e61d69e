"""``kbsync init`` and ``config``: the project file, as it is and as it may be."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from kbsync.cli.options import DEFAULT_HOME, Options, command, family
from kbsync.errors import SettingsError
from kbsync.project import FILE_NAME, SCHEMA, find_project, read_project, write_project
from kbsync.report.console import emit, table

app = family("The project file kbsync.yaml: what holds and why, and its JSON schema.")


@command(app, "show", examples=("kbsync config show", "kbsync config show --json"))
def show(options: Options) -> None:
    """Show what holds here and where each value comes from: flag, environment, file, preset, or default."""
    from kbsync.sync.configuration import origins

    file = find_project(Path())
    project = read_project(file) if file else None
    home = None if options.home is DEFAULT_HOME else options.home
    values = list(origins(project, home, flag=options.home_named))
    rows = [(one.name, one.value, one.origin) for one in values]
    title = str(file or f"no {FILE_NAME} here or above")
    emit(
        {"file": file, "values": values},
        lambda _: table(("name", "value", "from"), rows, title=title),
        as_json=options.json,
    )


@command(app, "check", examples=("kbsync config check",))
def check(options: Options) -> None:
    """Check the project file: every problem with its line and column."""
    file = find_project(Path())
    if file is None:
        raise SettingsError(f"no {FILE_NAME} here or in a folder above: `kbsync init` writes one")
    project = read_project(file)
    emit(
        {"file": file, "sources": len(project.sources)},
        lambda found: f"{found['file']}: good; {found['sources']} sources",
        as_json=options.json,
    )


@command(app, "schema", examples=("kbsync config schema",))
def schema(options: Options) -> None:
    """Print the file's JSON schema, by which editors check and complete it."""
    print(json.dumps(SCHEMA, indent=2))


init_app = family()

INIT_EXAMPLES = ("kbsync init", "kbsync init --model practice --source facts.yaml --relation P36")


@command(init_app, "init", examples=INIT_EXAMPLES)
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
