"""How a month of syncs is shown: a table of its last day, a plot of all."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from kbsync.report.plots import lines_figure
from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.benchmarks.sync import SyncBench

__all__ = ["plot_month", "sync_view"]

COLUMNS = ("S", "ES", "PS", "NS", "recall", "paraphrase_recall", "withdrawn_restored", "perplexity", "delta_norm")
PLOTTED = {
    "S": "S of all active facts",
    "recall": "recall of all active facts, %",
    "NS": "NS, %",
    "withdrawn_restored": "withdrawn facts answered as the base does, %",
    "perplexity": "perplexity on other sentences",
    "delta_norm": "norm of the change of weights",
}


def sync_view(bench: "SyncBench") -> RenderableType:
    """Return the last day's figures for each way, and what the month held."""
    last = bench.days[-1]
    title = f"day {last.day}: {last.active} facts active"
    rows = [
        (way, *(None if getattr(one, name) is None else round(getattr(one, name), 2) for name in COLUMNS))
        for way, one in last.ways.items()
    ]
    held = f"{bench.requests} requests, {bench.changes} of them changes; {bench.withdrawals} withdrawals"
    apart = max(day.one_batch for day in bench.days)
    return Group(
        table(("way", *COLUMNS), rows, title=title),
        plain(held),
        plain(f"rebase and one batch of the day's facts differ by {apart:.1e} of the delta at most"),
    )


def plot_month(bench: "SyncBench", path: Path) -> list[Path]:
    """Write the month's plot as `path` with .png and .svg in place of its suffix; return both paths."""
    days = [day.day for day in bench.days]
    series = {
        title: {way: [getattr(day.ways[way], name) for day in bench.days] for way in bench.days[-1].ways}
        for name, title in PLOTTED.items()
    }
    return lines_figure(path, "day", days, series, logarithmic={PLOTTED["perplexity"]})
