"""How the trade of held facts is shown: a table of all trials, a plot over the weights."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType

from kbsync.report.plots import lines_figure
from kbsync.report.tables import table

if TYPE_CHECKING:
    from kbsync.benchmarks.holds import HoldsBench

__all__ = ["holds_view", "plot_holds"]

COLUMNS = ("S", "ES", "PS", "NS", "recall", "perplexity", "held_known", "others_known")
PLOTTED = {
    "S": "S",
    "recall": "recall of the edits, %",
    "NS": "NS, %",
    "held_known": "held facts still known, %",
    "others_known": "other facts still known, %",
    "perplexity": "perplexity on other sentences",
}


def holds_view(bench: "HoldsBench") -> RenderableType:
    """Return a row for each trial."""
    rows = [
        (one.edits, one.sweeps, one.held, one.weight, *(round(getattr(one, name), 2) for name in COLUMNS))
        for one in bench.trials
    ]
    return table(("edits", "sweeps", "held", "weight", *COLUMNS), rows, title=f"held facts on {bench.model}")


def plot_holds(bench: "HoldsBench", path: Path) -> list[Path]:
    """Write the plot as `path` with .png and .svg in place of its suffix; return both paths."""
    weights = sorted({one.weight for one in bench.trials})
    ways = list(dict.fromkeys((one.edits, one.sweeps) for one in bench.trials))
    found = {(one.edits, one.sweeps, one.weight): one for one in bench.trials}
    series = {
        title: {
            f"{edits} edits, {sweeps} sweep{'s' * (sweeps > 1)}": [
                getattr(found[edits, sweeps, weight], name) for weight in weights
            ]
            for edits, sweeps in ways
        }
        for name, title in PLOTTED.items()
    }
    return lines_figure(path, "weight of a held fact", weights, series)
