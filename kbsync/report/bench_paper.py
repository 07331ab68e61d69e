"""How the paper's experiments are shown: a table each, and the page with all tables and figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from kbsync.errors import KbsyncError
from kbsync.report.paper_figures import write_drawing
from kbsync.report.paper_page import page, shown_columns
from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.benchmarks.paper.run import PaperRun

__all__ = ["paper_view", "write_page"]

TABLE_ROWS = 24
"""rows of a table on the terminal; all are in the CSV file and on the page"""


def paper_view(run: "PaperRun") -> RenderableType:
    """Return a table for each experiment, and where the rest is."""
    parts: list[RenderableType] = []
    for done in run.experiments.values():
        parts.append(rows_table(f"{done.title} ({done.paper})", done.result.rows))
        if len(done.result.rows) > TABLE_ROWS:
            parts.append(plain(f"and {len(done.result.rows) - TABLE_ROWS} further rows"))
    parts.append(plain(f"{run.units_made} measurements made; all results are in {run.folder}, the page is index.html"))
    return Group(*parts)


def rows_table(title: str, rows: Sequence[dict[str, Any]]) -> RenderableType:
    """Return the first rows, without the bounds of intervals."""
    columns = shown_columns(rows)
    cells = [[rounded(row.get(name)) for name in columns] for row in rows[:TABLE_ROWS]]
    return table(columns, cells, title=title)


def rounded(value: object) -> object:
    """Return a float with two places, anything else as it is."""
    return round(value, 2) if isinstance(value, float) else value


def write_page(run: "PaperRun") -> Path:
    """Write every figure as SVG and PNG, and ``index.html``; return its path. KbsyncError where that fails."""
    figures: dict[str, str] = {}
    for name, done in run.experiments.items():
        for drawing in done.result.drawings:
            stem = drawing.name if drawing.name.startswith(name) else f"{name}-{drawing.name}"
            svg, _ = write_drawing(run.folder / stem, drawing)
            figures[drawing.name] = svg.read_text(encoding="utf-8")
    file = run.folder / "index.html"
    try:
        file.write_text(page(run, figures), encoding="utf-8")
    except OSError as error:
        raise KbsyncError(f"the page {file} cannot be written: {error.strerror or error}") from error
    return file
