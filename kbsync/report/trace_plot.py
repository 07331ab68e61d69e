"""The plots of a causal trace (ROME, Figure 1; MEMIT, Figures 3 and 8): heat maps by token and block, and bars."""

from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.report.plots import save_figure
from kbsync.report.trace import LAST_SUBJECT, TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

    from kbsync.metrics.trace import TraceFigures
    from kbsync.workflows.trace import Trace

__all__ = ["plot_trace"]

BARS = {"effect": ("0.25", ""), "attention severed": ("0.6", "//"), "MLP severed": ("0.95", "..")}
"""grey and hatching, so that they can be told apart without colour"""


def plot_trace(found: "Trace", path: Path) -> list[Path]:
    """Draw a heat map for each kind of what is put back, and the severed variants as bars; write PNG and SVG.

    `path` gives folder and stem. Raises KbsyncError where it cannot be written.
    """
    from matplotlib.figure import Figure as Drawing

    figures = found.figures
    figure = Drawing(figsize=(14.0, 6.4), layout="constrained")
    grid = figure.add_gridspec(2, len(figures.effects))
    for number, kind in enumerate(figures.effects):
        _heat_map(figure, figure.add_subplot(grid[0, number]), figures, kind, first=number == 0)
    _bars(figure.add_subplot(grid[1, :]), found)
    return save_figure(figure, path)


def _heat_map(figure: "Drawing", axis: "Axes", figures: "TraceFigures", kind: str, *, first: bool) -> None:
    by_group = figures.effects[kind]
    cells = [[float("nan") if one is None else one.mean for one in effects] for effects in by_group.values()]
    image = axis.imshow(cells, aspect="auto", cmap="Greys", interpolation="nearest")
    figure.colorbar(image, ax=axis, label="points of probability" if kind == [*figures.effects][-1] else "")
    axis.set_yticks(range(len(by_group)), labels=list(by_group) if first else [])
    of = "" if kind == "state" or figures.window == 1 else f" of {figures.window} blocks"
    axis.set_title(f"{TITLES[kind]}{of} put back", fontsize=9)
    axis.set_xlabel("block")


def _bars(axis: "Axes", found: "Trace") -> None:
    figures = found.figures
    state = figures.effects["state"][LAST_SUBJECT]
    columns = (state, figures.severed["attention"], figures.severed["mlp"])
    width = 0.8 / len(columns)
    for number, ((name, (grey, hatch)), column) in enumerate(zip(BARS.items(), columns, strict=True)):
        there = [(layer, one) for layer, one in enumerate(column) if one is not None]
        means = [one.mean for _, one in there]
        spread = [[one.mean - one.low for _, one in there], [one.high - one.mean for _, one in there]]
        x = [layer + (number - 1) * width for layer, _ in there]
        axis.bar(x, means, width, yerr=spread, color=grey, edgecolor="black", hatch=hatch, capsize=2, label=name)
    if found.suggested is not None:
        low, high = found.suggested[0] - 0.5, found.suggested[-1] + 0.5
        axis.axvspan(low, high, facecolor="none", edgecolor="black", linestyle="--", label="suggested layers")
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xticks(range(len(figures.gap)))
    axis.set_xlabel("block")
    axis.set_ylabel("points of probability")
    axis.set_title(f"hidden state put back at the {LAST_SUBJECT}, with 95% intervals", fontsize=9)
    axis.legend(fontsize=8)
