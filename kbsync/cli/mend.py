"""``kbsync mend train``: the network that the editor MEND needs."""

from typing import Annotated

import typer

from kbsync.cli.choices import ModelOption
from kbsync.cli.options import Options, command, family
from kbsync.report.console import emit
from kbsync.report.models import mend_view
from kbsync.report.progress import progress
from kbsync.sync.home import AS_STORED, Loading

app = family("MEND, a baseline that must be trained for each model.")


@command(app, "train", examples=("kbsync mend train --model practice --steps 500",))
def train(
    options: Options,
    model: ModelOption,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", min=1, help="Training steps.  [the model's, else 2000]")
    ] = None,
    facts: Annotated[
        int, typer.Option("--facts", metavar="N", min=10, help="Number of known facts to train on.")
    ] = 1000,
    loading: Loading = AS_STORED,
) -> None:
    """Train MEND's network for a model, on facts that the model knows.

    Uses the ledger's facts or, if it has none, the fixtures'. The network is kept in the home and serves only models
    with the same weights. The model itself does not change.
    """
    from kbsync.sync.mend import MendOptions, train_network

    with progress(quiet=options.json) as report:
        trained = train_network(options.home, MendOptions(model, facts, steps, loading), report)
    emit(trained, mend_view, as_json=options.json)
