"""``kbsync config``: the project file, as it is and as it may be."""

import json
from pathlib import Path

from kbsync.cli.options import DEFAULT_HOME, Options, command, family
from kbsync.errors import SettingsError
from kbsync.project import FILE_NAME, SCHEMA, find_project, read_project
from kbsync.report.console import emit
from kbsync.report.tables import table

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
