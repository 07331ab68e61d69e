"""What `bench paper` shows: a table for each experiment, and one page with every table and figure.

The page has no script and loads nothing from elsewhere.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from rich.console import Group, RenderableType

from kbsync.benchmarks.paper.run import PaperRun
from kbsync.errors import KbsyncError
from kbsync.report.console import plain, table
from kbsync.report.plots import Row, write_charts

TABLE_ROWS = 24
"""rows of a table on the terminal; all are in the CSV file and on the page"""
LONG = 30
"""letters of a cell that stays on one line"""


def paper_view(run: PaperRun) -> RenderableType:
    """Return a table for each experiment, and where the rest is."""
    parts: list[RenderableType] = []
    for done in run.experiments.values():
        rows, columns = done.result.rows, shown_columns(done.result.rows)
        cells = [[figure_text(row.get(name), places=2) for name in columns] for row in rows[:TABLE_ROWS]]
        parts.append(table(columns, cells, title=f"{done.title} ({done.paper})"))
        if len(rows) > TABLE_ROWS:
            parts.append(plain(f"and {len(rows) - TABLE_ROWS} further rows"))
    parts.append(plain(f"{run.units_made} measurements made; all results are in {run.folder}, the page is index.html"))
    return Group(*parts)


def write_page(run: PaperRun) -> Path:
    """Write every figure as SVG and PNG, and ``index.html``; return its path. KbsyncError where that fails."""
    figures: dict[str, str] = {}
    for name, done in run.experiments.items():
        for chart in done.result.charts:
            stem = chart.name if chart.name.startswith(name) else f"{name}-{chart.name}"
            svg = write_charts(run.folder / stem, [chart])[1].read_text(encoding="utf-8")
            figures[chart.name] = inlined(svg, chart.name)
    page = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("page.html")
    about = json.dumps(run.about, indent=1, ensure_ascii=False)
    tools = {"shown_columns": shown_columns, "column_class": column_class, "figure_text": figure_text}
    file = run.folder / "index.html"
    try:
        file.write_text(page.render(run=run, figures=figures, about=about, **tools), encoding="utf-8")
    except OSError as error:
        raise KbsyncError(f"the page {file} cannot be written: {error.strerror or error}") from error
    return file


def inlined(svg: str, name: str) -> str:
    """Return the SVG element alone, its ids under `name`, so that those of one page differ."""
    start = re.search(r"<svg\b", svg)
    element = svg[start.start() :] if start else svg
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", element)


def shown_columns(rows: Sequence[Row]) -> list[str]:
    """Return the columns of rows in the order in which they first stand, without the bounds of intervals."""
    columns = dict.fromkeys(name for row in rows for name in row)
    return [name for name in columns if not name.endswith(("_low", "_high"))]


def column_class(rows: Sequence[Row], name: str) -> Markup:
    """Return the attribute of a column of numbers, or of long text, which may break."""
    values = [row.get(name) for row in rows]
    if all(isinstance(value, int | float | None) for value in values):
        return Markup(' class="number"')
    return Markup(' class="long"' if any(len(str(value)) > LONG for value in values) else "")


def figure_text(value: object, places: int | None = None) -> object:
    """Return a float with so many places, else with one, or three digits where it is small; others as they are."""
    if not isinstance(value, float):
        return "" if value is None else value
    if places is not None:
        return round(value, places)
    return f"{value:.1f}" if abs(value) >= 10 or value == 0 else f"{value:.3g}"
