"""``kbsync bench``: what kbsync measures of itself."""

from pathlib import Path
from typing import Annotated

import typer

from kbsync.cli.choices import ModelOption, SetOption, parse_values
from kbsync.cli.options import Options, command, family
from kbsync.report.console import emit, log_console
from kbsync.report.progress import progress
from kbsync.report.tables import plain
from kbsync.workflows.loading import AS_STORED, Loading

app = family()
group = family("Benchmarks: each runs both sides in one go and prints what it measured.")
app.add_typer(group, name="bench")

SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="Draw other facts.")]


@command(group, "sync", examples=("kbsync bench sync --model practice --syncs 30 --plot month.png",))
def sync(
    options: Options,
    model: ModelOption = "practice",
    syncs: Annotated[int, typer.Option("--syncs", metavar="N", min=2, help="Days, a sync each.")] = 30,
    seed: SeedOption = 0,
    setting: SetOption = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the month: FILE with .png and with .svg.")
    ] = None,
    loading: Loading = AS_STORED,
) -> None:
    """Simulate a month of syncs, four ways: rebase, edits upon edits, incremental, and nothing.

    Each day adds facts, changes some and withdraws some; figures are over all active facts. Takes about an hour on 2
    cores.
    """
    from kbsync.benchmarks.sync import bench_sync
    from kbsync.report.bench_sync import plot_month, sync_view

    with progress(quiet=options.json) as report:
        done = bench_sync(model, syncs, seed=seed, values=parse_values(setting), loading=loading, progress=report)
    if plot is not None:
        for path in plot_month(done, plot):
            log_console().print(plain(f"wrote {path}"))
    emit(done, sync_view, as_json=options.json)
