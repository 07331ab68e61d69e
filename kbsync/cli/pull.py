"""``kbsync pull``, ``relations`` and ``templates``: facts, what can be read, and the wordings of each relation."""

import datetime
from pathlib import Path
from typing import Annotated

import typer

from kbsync.cli.choices import ContactOption, ModelOption, option
from kbsync.cli.options import Options, command, family
from kbsync.report import pull as views
from kbsync.report.console import emit, progress
from kbsync.sync.home import AS_STORED, Loading

app = family()

EXAMPLES = (
    "kbsync pull --relation P17",
    "kbsync pull --relation P17 --relation P36 --class Q515 --min-sitelinks 50",
    "kbsync pull --relation P35 --source facts.ttl --as-of 2024-07-01",
    "kbsync pull --relation P17 --source latest-truthy.nt.bz2 --lang en,mul",
    "kbsync pull --relation P17 --class Q515 --dry-run",
    'kbsync pull --relation P36 --source sqlite:///facts.db --query "SELECT subject, object FROM capitals"',
)


RelationOption = Annotated[
    list[str] | None,
    option("--relation ID", "What to read, such as P17; again for more.  [all that kbsync.yaml names]"),
]
SourceOption = Annotated[
    str,
    option(
        "--source S", "wikidata, a SPARQL endpoint's URL, sqlite: or postgresql:, a file (RDF, table, YAML, data set)."
    ),
]
ClassOption = Annotated[str | None, option("--class ID", "Only subjects that are instances of it, such as Q515.")]
SubjectsOption = Annotated[Path | None, option("--subjects FILE", "Only these subjects: ids or labels, one per line.")]
LanguageOption = Annotated[str | None, option("--lang CODE", "The labels' language, or several: en,mul,de.  [en]")]
LimitOption = Annotated[int | None, option("--limit N", "At most N subjects for each relation.", min=1)]
SitelinksOption = Annotated[
    int | None, option("--min-sitelinks N", "Only subjects with N sitelinks (Wikipedia pages).", min=0)
]
AllOption = Annotated[bool, option("--all", "Read the whole relation, even if its template names a part.")]
AsOfOption = Annotated[
    datetime.datetime | None,
    option("--as-of DATE", "Read what was current on that day.  [today]", formats=["%Y-%m-%d"]),
]
AliasesOption = Annotated[
    bool, option("--aliases", "Read aliases of subjects and objects, too: answers in them count.")
]
QueryOption = Annotated[
    str | None, option("--query Q", "A SELECT of your own, SPARQL or SQL: its text or its file (.rq, .sql).")
]
MaxWithdrawnOption = Annotated[
    float,
    option(
        "--max-withdrawn PERCENT",
        "Largest share of a relation that a pull may withdraw (else KBSYNC_MAX_WITHDRAWN).",
        min=0,
        max=100,
        envvar="KBSYNC_MAX_WITHDRAWN",
        show_envvar=False,
    ),
]
AcceptOption = Annotated[bool, option("--accept-withdrawals", "Record the pull, however much it withdraws.")]
DryRunOption = Annotated[bool, option("--dry-run", "Print the SPARQL of the first pages, and send nothing.")]


@command(app, "pull", examples=EXAMPLES)
def pull(
    options: Options,
    relation: RelationOption = None,
    source: SourceOption = "wikidata",
    class_id: ClassOption = None,
    subjects: SubjectsOption = None,
    language: LanguageOption = None,
    limit: LimitOption = None,
    min_sitelinks: SitelinksOption = None,
    everything: AllOption = False,
    as_of: AsOfOption = None,
    aliases: AliasesOption = False,
    query: QueryOption = None,
    contact: ContactOption = None,
    max_withdrawn: MaxWithdrawnOption = 20.0,
    accept_withdrawals: AcceptOption = False,
    dry: DryRunOption = False,
) -> None:
    """Read facts into the ledger, and show what is new, changed and withdrawn.

    Reads current statements only: of the best rank, and with no end in the past. Of Wikidata's largest relations it
    reads the part that the relation's template names; options choose another. A pull of a part withdraws what has left
    that part and nothing else; with --limit it withdraws nothing. If it would withdraw more than a fifth of a
    relation (and more than four facts), or all of it, it records nothing and exits with 3, unless you accept it.
    An interrupted pull of an endpoint goes on where it stopped, within a day.
    """
    from kbsync.sync import pull as workflow
    from kbsync.sync.reading import dry_run, make_asks

    if not relation:
        pull_project(options, contact, accept_withdrawals)
        return
    asks = make_asks(
        relation,
        source,
        class_id=class_id,
        subjects_file=subjects,
        language=language,
        limit=limit,
        min_sitelinks=min_sitelinks,
        as_of=as_of.date() if as_of else None,
        aliases=aliases,
        everything=everything,
        home=options.home,
    )
    if dry:
        print_queries(options, dry_run(asks, source, query))
        return
    with progress(quiet=options.json) as report:
        results = workflow.pull(
            options.home,
            asks,
            source,
            report,
            contact=contact,
            query=query,
            max_withdrawn=max_withdrawn,
            accept_withdrawals=accept_withdrawals,
        )
    emit({"pulls": results}, views.pulls_view, as_json=options.json)


def pull_project(options: Options, contact: str | None, accept_withdrawals: bool) -> None:
    from kbsync.sync.daily import pull_sources

    if options.project is None:
        raise typer.BadParameter("name what to read, or a project file that does", param_hint="--relation")
    project = options.require_project()
    with progress(quiet=options.json) as report:
        results = pull_sources(project, report, contact=contact, accept_withdrawals=accept_withdrawals)
    emit({"pulls": results}, views.pulls_view, as_json=options.json)


def print_queries(options: Options, queries: list[dict[str, str]]) -> None:
    """Print the queries as they are: a table's lines would be cut or folded."""
    if options.json:
        emit({"queries": queries}, lambda _: "", as_json=True)
    else:
        print("\n\n".join(query["text"] for query in queries))


templates_app = family("The wordings of each relation; your own, in the home's templates/, come first.")


@command(templates_app, "list", examples=("kbsync templates list", "kbsync templates list --json"))
def list_templates(options: Options) -> None:
    """List the relations that have a template."""
    from kbsync.sync.home import templates_for

    emit({"templates": list(templates_for(options.home))}, views.templates_view, as_json=options.json)


@command(templates_app, "show", examples=("kbsync templates show P17",))
def show(options: Options, relation: Annotated[str, typer.Argument(help="A relation's id, such as P17.")]) -> None:
    """Show a relation's prompt, wordings, paraphrases, question and kind of subject."""
    from kbsync.sync.home import templates_for

    emit(templates_for(options.home).require(relation), views.template_view, as_json=options.json)


@command(templates_app, "check", examples=("kbsync templates check my-relations.yaml",))
def check(options: Options, file: Annotated[Path, typer.Argument(help="A template file (YAML).")]) -> None:
    """Check a template file, and that no other relation has its prompts; report every bad entry with its line."""
    from kbsync.sync.home import check_templates

    emit({"file": file, "templates": check_templates(options.home, file)}, views.checked_view, as_json=options.json)


@command(
    templates_app,
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
        str, option("--source S", "wikidata, an endpoint's URL, or with --predicate an RDF file.")
    ] = "wikidata",
    predicate: Annotated[
        str | None, option("--predicate IRI", "The property that states it, such as dbo:capital.")
    ] = None,
    contact: ContactOption = None,
) -> None:
    """Write a draft of a template from a property's label and aliases at an endpoint.

    The draft goes into the home's templates/ and never overwrites a file. Correct its wordings before an apply.
    """
    from kbsync.sync.relations import new_template

    made = new_template(options.home, relation, source, contact, predicate=predicate)
    emit(made, views.drafted_view, as_json=options.json)


@command(templates_app, "test", examples=("kbsync templates test P17 --model practice --facts 100",))
def measure(
    options: Options,
    relation: Annotated[str, typer.Argument(help="A relation's id, such as P17.")],
    model: ModelOption,
    facts: Annotated[int, option("--facts N", "Number of facts to ask about, chosen at random.", min=1)] = 200,
    loading: Loading = AS_STORED,
) -> None:
    """Measure how often each wording gives the object, on facts that the model knows; best first.

    A fact counts as known if at least one wording gives its object. Answers are recorded and reused.
    """
    from kbsync.sync.edits import measure_wordings

    with progress(quiet=options.json) as report:
        measured = measure_wordings(options.home, relation, model, facts, loading, report)
    emit(measured, views.tested_view, as_json=options.json)


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
        str | None, option("--model M", "The model whose recorded answers count.  [the one used last]")
    ] = None,
    search: Annotated[str | None, option("--search TEXT", "Find relations by part of a label or wording.")] = None,
    online: Annotated[bool, option("--online", "Search the endpoint's properties.")] = False,
    discover: Annotated[
        bool, option("--discover", "List what states relations in --source: predicates, or a table's columns.")
    ] = False,
    source: Annotated[
        str, option("--source S", "With --online or --discover: wikidata, a URL, a file, a database.")
    ] = "wikidata",
    contact: ContactOption = None,
) -> None:
    """List the relations that have a template or facts: their facts and conflicts, and what the model knew when asked.

    Loads no model; a dash means that it was never asked.
    """
    from kbsync.sync.relations import discover_relations, relations_for, search_online, search_templates

    if discover:
        predicates = discover_relations(options.home, source, contact)
        emit({"source": source, "predicates": predicates}, views.discovered_view, as_json=options.json)
        return
    options.require_home()
    if search is None:
        if online:
            raise typer.BadParameter("goes with --search TEXT", param_hint="--online")
        emit(relations_for(options.home, model), views.relations_view, as_json=options.json)
        return
    home = options.home
    found = search_online(home, search, source, contact) if online else search_templates(home, search)
    emit({"search": search, "relations": found}, views.found_view, as_json=options.json)
