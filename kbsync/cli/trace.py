"""``kbsync trace``: where a model recalls its facts."""

from pathlib import Path
from typing import Annotated

import typer

from kbsync.cli.choices import ModelOption, RelationsOption
from kbsync.cli.options import Options, command, family
from kbsync.report.console import log_console, show
from kbsync.report.progress import progress
from kbsync.report.tables import plain
from kbsync.report.trace import trace_json, trace_view
from kbsync.sync.home import AS_STORED, Loading

app = family()

EXAMPLES = (
    "kbsync trace --model practice --facts 50 --plot trace.png",
    "kbsync trace --model gpt-j --facts 1000 --samples 10 --write-preset gpt-j-traced",
)


@command(app, "trace", examples=EXAMPLES)
def trace(
    options: Options,
    model: ModelOption,
    relation: RelationsOption = None,
    facts: Annotated[int, typer.Option("--facts", metavar="N", min=1, help="Number of known facts to trace.")] = 100,
    samples: Annotated[int, typer.Option("--samples", metavar="N", min=1, help="Noise samples for each fact.")] = 3,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the noise.")] = 0,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Plot heat maps and bars as FILE.png and FILE.svg.")
    ] = None,
    write_preset: Annotated[
        str | None,
        typer.Option("--write-preset", metavar="NAME", help="Save the suggested layers as a preset of this home."),
    ] = None,
    loading: Loading = AS_STORED,
) -> None:
    """Find where a model recalls its facts (causal tracing), and which layers to edit.

    Traces facts of the ledger or, if it has none, of the fixtures, that the model knows. Noise on the subject makes it
    lose a fact; the tables show what a hidden state, or the MLPs or attentions of a few blocks, restores by token and
    block. Tries no edit: `kbsync calibrate` does that.
    """
    from kbsync.sync.trace import TraceOptions
    from kbsync.sync.trace import trace as workflow

    wanted = TraceOptions(model, relation, facts, samples, seed, write_preset, loading)
    with progress(quiet=options.json) as report:
        found = workflow(options.home, wanted, report)
    if plot is not None:
        from kbsync.report.trace import plot_trace

        for path in plot_trace(found, plot):
            log_console().print(plain(f"wrote {path}"))
    show(found, trace_view, trace_json, as_json=options.json)
