"""``kbsync pull``: from a source of facts into the ledger."""

import datetime
from pathlib import Path
from typing import Annotated

import typer

from kbsync.cli.options import Options, command, family
from kbsync.report.console import emit
from kbsync.report.progress import progress
from kbsync.report.pull import pulls_view

app = family()

EXAMPLES = (
    "kbsync pull --relation P17 --relation P36 --class Q515 --min-sitelinks 50",
    "kbsync pull --relation P35 --source facts.ttl --as-of 2024-07-01",
)


@command(app, "pull", examples=EXAMPLES)
def pull(
    options: Options,
    relation: Annotated[
        list[str], typer.Option("--relation", metavar="ID", help="What to read, such as P17; again for more.")
    ],
    source: Annotated[
        str,
        typer.Option("--source", metavar="S", help="wikidata, a SPARQL endpoint's URL, an RDF file or a YAML file."),
    ] = "wikidata",
    class_id: Annotated[
        str | None, typer.Option("--class", metavar="ID", help="Only subjects that are instances of it, such as Q515.")
    ] = None,
    subjects: Annotated[
        Path | None, typer.Option("--subjects", metavar="FILE", help="Only these subjects: ids or labels, one a line.")
    ] = None,
    language: Annotated[str, typer.Option("--lang", metavar="CODE", help="The language of the labels.")] = "en",
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="At most N subjects for each relation.")
    ] = None,
    min_sitelinks: Annotated[
        int | None,
        typer.Option("--min-sitelinks", metavar="N", min=0, help="Only subjects with N sitelinks (Wikipedia pages)."),
    ] = None,
    as_of: Annotated[
        datetime.datetime | None,
        typer.Option("--as-of", metavar="DATE", formats=["%Y-%m-%d"], help="What was current on that day.  [today]"),
    ] = None,
    aliases: Annotated[
        bool, typer.Option("--aliases", help="Read other names of subjects and objects, too: such answers count.")
    ] = False,
) -> None:
    """Read facts into the ledger, and show what is new, changed and withdrawn.

    Only current statements are read: of the best rank, and with no end in the past. A pull that asks for a part
    (--class, --subjects, --limit, --min-sitelinks) withdraws nothing that it did not ask for.
    """
    from kbsync.workflows import pull as workflow

    with progress(quiet=options.json) as report:
        results = workflow.pull(
            options.home,
            relation,
            source,
            report,
            class_id=class_id,
            subjects_file=subjects,
            language=language,
            limit=limit,
            min_sitelinks=min_sitelinks,
            as_of=as_of.date() if as_of else None,
            aliases=aliases,
        )
    emit({"pulls": results}, pulls_view, as_json=options.json)
