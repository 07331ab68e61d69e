"""What `bench paper` shows: a table for each experiment, and one page with every table and figure.

The page has no script and loads nothing from elsewhere.
"""

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from rich.console import Group, RenderableType

from kbsync.benchmarks.paper.drawings import Row, write_drawing
from kbsync.benchmarks.paper.run import Done, PaperRun
from kbsync.errors import KbsyncError
from kbsync.report.tables import plain, table

__all__ = ["paper_view", "write_page"]

TABLE_ROWS = 24
"""rows of a table on the terminal; all are in the CSV file and on the page"""
BOUNDS = ("_low", "_high")
LONG = 30
"""letters of a cell that stays on one line"""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a;
  background: #fff; }
h3 { font-size: 1em; margin: 1.5rem 0 .5rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem; }
nav a { margin-right: 1rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; flex: 1 1 28rem; max-width: 34rem; } figure svg { width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0 0 1rem; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top;
  white-space: nowrap; }
.number { text-align: right; } td.long { min-width: 14rem; white-space: normal; }
.interval { color: #666; font-size: .8em; }
details { margin: 1rem 0; } pre { overflow-x: auto; background: #f6f6f6; padding: 1rem; font-size: .85em; }
"""


def paper_view(run: PaperRun) -> RenderableType:
    """Return a table for each experiment, and where the rest is."""
    parts: list[RenderableType] = []
    for done in run.experiments.values():
        parts.append(rows_table(f"{done.title} ({done.paper})", done.result.rows))
        if len(done.result.rows) > TABLE_ROWS:
            parts.append(plain(f"and {len(done.result.rows) - TABLE_ROWS} further rows"))
    parts.append(plain(f"{run.units_made} measurements made; all results are in {run.folder}, the page is index.html"))
    return Group(*parts)


def rows_table(title: str, rows: Sequence[Row]) -> RenderableType:
    """Return the first rows, without the bounds of intervals."""
    columns = shown_columns(rows)
    cells = [[rounded(row.get(name)) for name in columns] for row in rows[:TABLE_ROWS]]
    return table(columns, cells, title=title)


def rounded(value: object) -> object:
    """Return a float with two places, anything else as it is."""
    return round(value, 2) if isinstance(value, float) else value


def write_page(run: PaperRun) -> Path:
    """Write every figure as SVG and PNG, and ``index.html``; return its path. KbsyncError where that fails."""
    figures: dict[str, str] = {}
    for name, done in run.experiments.items():
        for drawing in done.result.drawings:
            stem = drawing.name if drawing.name.startswith(name) else f"{name}-{drawing.name}"
            figures[drawing.name] = write_drawing(run.folder / stem, drawing).read_text(encoding="utf-8")
    file = run.folder / "index.html"
    try:
        file.write_text(page(run, figures), encoding="utf-8")
    except OSError as error:
        raise KbsyncError(f"the page {file} cannot be written: {error.strerror or error}") from error
    return file


def page(run: PaperRun, figures: Mapping[str, str]) -> str:
    """Return the page; `figures` maps a drawing's name to its SVG."""
    sections = "\n".join(section(name, done, figures) for name, done in run.experiments.items())
    links = " ".join(f'<a href="#{name}">{escape(name)}</a>' for name in run.experiments)
    title = f"MEMIT's tables and figures on {escape(run.model)}"
    made = escape(json.dumps(run.about, indent=1, ensure_ascii=False))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # An icon of its own, or a browser asks the server for one.
        f'<link rel="icon" href="data:,">\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n'
        f"<p>Made by <code>kbsync bench paper</code>, after Meng et al. 2023 (arXiv 2210.07229). 95% intervals"
        f" stand in small type.</p>\n<nav>{links}</nav>\n{sections}\n"
        f"<details><summary>Settings, seed, versions, machine</summary><pre>{made}</pre></details>\n</body>\n</html>\n"
    )


def section(name: str, done: Done, figures: Mapping[str, str]) -> str:
    """Return one experiment's section."""
    drawn = "\n".join(
        f'<figure id="figure-{escape(one.name)}" role="img" aria-label="{escape(one.title)}">'
        f"{inlined(figures[one.name], one.name)}</figure>"
        for one in done.result.drawings
    )
    published = ""
    if done.published is not None:
        title = f"The paper's own {done.published.table} ({done.published.source})"
        published = html_table(done.published.rows, title)
    return (
        f'<section id="{escape(name)}">\n<h2>{escape(done.title)} <small>({escape(done.paper)})</small></h2>\n'
        f"<p>{escape(done.result.note)}</p>\n"
        f'<div class="figures">{drawn}</div>\n{html_table(done.result.rows, "Measured here")}\n{published}\n</section>'
    )


def inlined(svg: str, name: str) -> str:
    """Return the SVG element alone, its ids under `name`, so that those of one page differ."""
    start = re.search(r"<svg\b", svg)
    element = svg[start.start() :] if start else svg
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", element)


def shown_columns(rows: Sequence[Row]) -> list[str]:
    """Return the columns of rows in the order in which they first stand, without the bounds of intervals."""
    columns = dict.fromkeys(name for row in rows for name in row)
    return [name for name in columns if not name.endswith(BOUNDS)]


def html_table(rows: Sequence[Row], title: str) -> str:
    """Return rows as a table below its title, an interval beside its figure."""
    classes = {name: column_class([row.get(name) for row in rows]) for name in shown_columns(rows)}
    head = "".join(f'<th scope="col"{kind}>{escape(name.replace("_", " "))}</th>' for name, kind in classes.items())
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{cell(row, name)}</td>" for name, kind in classes.items()) + "</tr>"
        for row in rows
    )
    return (
        # The title stays whole where a narrow window cuts the table, and lets it scroll.
        f'<h3>{escape(title)}</h3>\n<div class="scroll"><table aria-label="{escape(title)}">\n'
        f"<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def column_class(values: Sequence[object]) -> str:
    """Return the attribute of a column of numbers, or of long text, which may break."""
    if all(isinstance(value, int | float | None) for value in values):
        return ' class="number"'
    return ' class="long"' if any(len(str(value)) > LONG for value in values) else ""


def cell(row: Row, name: str) -> str:
    """Return a value, with its interval where it has one."""
    value = row.get(name)
    if value is None:
        return ""
    text = escape(figure_text(value))
    if f"{name}_low" in row:
        low, high = (figure_text(row[f"{name}{bound}"]) for bound in BOUNDS)
        text += f' <span class="interval">{low} to {high}</span>'
    return text


def figure_text(value: object) -> str:
    """Return a value as text: floats with one place, or three digits where they are small."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1f}" if abs(value) >= 10 or value == 0 else f"{value:.3g}"
