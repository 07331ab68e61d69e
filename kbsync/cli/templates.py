"""``kbsync relations`` and ``templates``: what can be synced, and the wordings of each relation."""

from pathlib import Path
from typing import Annotated

import typer

from kbsync.cli.choices import ContactOption, ModelOption
from kbsync.cli.options import Options, command, family
from kbsync.report.console import emit, progress
from kbsync.report.relations import (
    checked_view,
    discovered_view,
    drafted_view,
    found_view,
    relations_view,
    template_view,
    templates_view,
    tested_view,
)
from kbsync.sync.home import AS_STORED, Loading

app = family("The wordings of each relation; your own, in the home's templates/, come first.")


@command(app, "list", examples=("kbsync templates list", "kbsync templates list --json"))
def list_templates(options: Options) -> None:
    """List the relations that have a template."""
    from kbsync.sync.home import templates_for

    emit({"templates": list(templates_for(options.home))}, templates_view, as_json=options.json)


@command(app, "show", examples=("kbsync templates show P17",))
def show(options: Options, relation: Annotated[str, typer.Argument(help="A relation's id, such as P17.")]) -> None:
    """Show a relation's prompt, wordings, paraphrases, question and kind of subject."""
    from kbsync.sync.home import templates_for

    emit(templates_for(options.home).require(relation), template_view, as_json=options.json)


@command(app, "check", examples=("kbsync templates check my-relations.yaml",))
def check(options: Options, file: Annotated[Path, typer.Argument(help="A template file (YAML).")]) -> None:
    """Check a template file, and that no other relation has its prompts; report every bad entry with its line."""
    from kbsync.sync.home import check_templates

    emit({"file": file, "templates": check_templates(options.home, file)}, checked_view, as_json=options.json)


@command(
    app,
    "new",
    examples=(
        "kbsync templates new P1813 --source wikidata",
        "kbsync templates new capital --predicate dbo:capital --source https://dbpedia.org/sparql",
    ),
)
def new(
    options: Options,
    relation: Annotated[str, typer.Argument(help="A Wikidata property, such as P1813, or a name of your own.")],
    source: Annotated[
        str, typer.Option("--source", metavar="S", help="wikidata, an endpoint's URL, or with --predicate an RDF file.")
    ] = "wikidata",
    predicate: Annotated[
        str | None, typer.Option("--predicate", metavar="IRI", help="The property that states it, such as dbo:capital.")
    ] = None,
    contact: ContactOption = None,
) -> None:
    """Write a draft of a template from a property's label and aliases at an endpoint.

    The draft goes into the home's templates/ and never overwrites a file. Correct its wordings before an apply.
    """
    from kbsync.sync.relations import new_template

    made = new_template(options.home, relation, source, contact, predicate=predicate)
    emit(made, drafted_view, as_json=options.json)


@command(app, "test", examples=("kbsync templates test P17 --model practice --facts 100",))
def measure(
    options: Options,
    relation: Annotated[str, typer.Argument(help="A relation's id, such as P17.")],
    model: ModelOption,
    facts: Annotated[
        int, typer.Option("--facts", metavar="N", min=1, help="Number of facts to ask about, chosen at random.")
    ] = 200,
    loading: Loading = AS_STORED,
) -> None:
    """Measure how often each wording gives the object, on facts that the model knows; best first.

    A fact counts as known if at least one wording gives its object. Answers are recorded and reused.
    """
    from kbsync.sync.wordings import measure_wordings

    with progress(quiet=options.json) as report:
        measured = measure_wordings(options.home, relation, model, facts, loading, report)
    emit(measured, tested_view, as_json=options.json)


relations_app = family()


@command(
    relations_app,
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
