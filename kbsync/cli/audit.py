"""``kbsync audit``: what an exported file holds."""

from pathlib import Path
from typing import Annotated

import typer

from kbsync.cli.choices import DIFFERENCE
from kbsync.cli.options import Options, command, family
from kbsync.report.console import emit
from kbsync.report.export import audit_view
from kbsync.sync.home import AS_STORED, Loading

app = family()


@command(app, "audit", examples=('kbsync audit adapter --fact "Albania P6"', "kbsync audit model.gguf --weights"))
def audit(
    options: Options,
    place: Annotated[Path, typer.Argument(metavar="FILE", help="An exported file or folder.")],
    fact: Annotated[
        list[str] | None,
        typer.Option("--fact", metavar="TEXT", help="Is this in it? Subject and relation; again for more."),
    ] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Load the base model too: are these the weights that the batch gives?")
    ] = False,
    loading: Loading = AS_STORED,
) -> None:
    """Tell from a file alone which batch it holds, whether a fact is in it, and whether it is as it was written.

    Where the home has a ledger, the file is held against it. Exits with 3 where something speaks against the file.
    """
    from kbsync.sync.audit import audit as workflow

    found = workflow(place, fact or (), home=options.home, weights=weights, loading=loading)
    emit(found, audit_view, as_json=options.json)
    if not found.whole:
        raise typer.Exit(DIFFERENCE)
