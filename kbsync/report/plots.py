"""Plots as files: PNG and SVG of the same figure."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.errors import KbsyncError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["lines_figure", "save_figure"]

COLUMNS = 3
SIZE = (4.2, 3.0)
"""inches of one panel"""


def lines_figure(
    path: Path,
    across: str,
    x: Sequence[float],
    panels: Mapping[str, Mapping[str, Sequence[float | None]]],
    *,
    logarithmic: Collection[str] = (),
) -> list[Path]:
    """Draw a panel of lines for each title of `panels` (line's name -> values at `x`); write PNG and SVG.

    `path` gives folder and stem. Raises KbsyncError where it cannot be written.
    """
    from matplotlib.figure import Figure

    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(SIZE[0] * min(COLUMNS, len(panels)), SIZE[1] * rows), layout="constrained")
    axes = figure.subplots(rows, min(COLUMNS, len(panels)), squeeze=False).flat
    for axis, (title, lines) in zip(axes, panels.items(), strict=False):
        for name, values in lines.items():
            axis.plot(x, [float("nan") if value is None else value for value in values], label=name)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(across)
        axis.grid(alpha=0.3)
        if title in logarithmic:
            axis.set_yscale("log")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return save_figure(figure, path)


def save_figure(figure: "Figure", path: Path) -> list[Path]:
    """Write a figure as PNG and SVG; `path` gives folder and stem. Raises KbsyncError where it cannot be written."""
    import matplotlib as mpl

    written = [path.with_suffix(suffix) for suffix in (".png", ".svg")]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A fixed salt and no date: the same figures give the same file.
        with mpl.rc_context({"svg.hashsalt": "kbsync"}):
            figure.savefig(written[0], dpi=130)
            figure.savefig(written[1], metadata={"Date": None})
    except OSError as error:
        raise KbsyncError(f"the plot {path} cannot be written: {error.strerror or error}") from error
    return written
