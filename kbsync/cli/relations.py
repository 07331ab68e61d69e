"""``kbsync relations``: what can be synced."""

from typing import Annotated

import typer

from kbsync.cli.choices import ContactOption
from kbsync.cli.options import Options, command, family
from kbsync.report.console import emit
from kbsync.report.relations import discovered_view, found_view, relations_view

app = family()


@command(
    app,
    "relations",
    examples=(
        "kbsync relations --model practice",
        'kbsync relations --search "head of" --online',
        "kbsync relations --discover --source facts.ttl",
        "kbsync relations --discover --source sqlite:///facts.db",
    ),
)
def relations(
    options: Options,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="M", help="The model whose recorded answers count.  [the one used last]"),
    ] = None,
    search: Annotated[
        str | None, typer.Option("--search", metavar="TEXT", help="Find relations by part of a label or wording.")
    ] = None,
    online: Annotated[bool, typer.Option("--online", help="Search the endpoint's properties.")] = False,
    discover: Annotated[
        bool,
        typer.Option("--discover", help="List what states relations in --source: predicates, or a table's columns."),
    ] = False,
    source: Annotated[
        str,
        typer.Option("--source", metavar="S", help="With --online or --discover: wikidata, a URL, a file, a database."),
    ] = "wikidata",
    contact: ContactOption = None,
) -> None:
    """List the relations that have a template or facts: their facts and conflicts, and what the model knew when asked.

    Loads no model; a dash means that it was never asked.
    """
    from kbsync.sync.relations import discover_relations, relations_for, search_online, search_templates

    if discover:
        predicates = discover_relations(options.home, source, contact)
        emit({"source": source, "predicates": predicates}, discovered_view, as_json=options.json)
        return
    options.require_home()
    if search is None:
        if online:
            raise typer.BadParameter("goes with --search TEXT", param_hint="--online")
        emit(relations_for(options.home, model), relations_view, as_json=options.json)
        return
    home = options.home
    found = search_online(home, search, source, contact) if online else search_templates(home, search)
    emit({"search": search, "relations": found}, found_view, as_json=options.json)
