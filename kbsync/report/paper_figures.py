"""Figures of the paper's experiments as SVG and PNG: one look for all, readable in black and white.

Series differ by marker, line style and hatching, and by colours of unlike lightness.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbsync.errors import KbsyncError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kbsync.benchmarks.paper.experiment import Bars, Drawing, Heat, Line, Lines, Points

__all__ = ["write_drawing"]

SIZE = (6.4, 3.8)
"""inches"""
COLOURS = ("#08306b", "#d94801", "#238b45", "#807dba", "#6b6b6b", "#fd8d3c", "#9ecae1", "#54278f")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLES = ("-", "--", "-.", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (4, 1, 1, 1, 1, 1)))
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo", "---")
EDITORS = ("memit", "rome", "ft", "mend", "alphaedit", "none")
"""keep their look in every figure, whichever of them are in it"""
LOOK: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "svg.fonttype": "none",
}


def write_drawing(stem: Path, drawing: "Drawing") -> tuple[Path, Path]:
    """Write ``STEM.svg`` and ``STEM.png``; return both paths. KbsyncError where they cannot be written."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    paths = stem.with_name(f"{stem.name}.svg"), stem.with_name(f"{stem.name}.png")
    # A fixed salt and no date: the same figures give the same file.
    with mpl.rc_context({**LOOK, "svg.hashsalt": "kbsync"}):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        draw = DRAWERS[type(drawing).__name__]
        draw(axes, drawing)
        axes.set_title(drawing.title, wrap=True)
        handles, labels = axes.get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), frameon=False)
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(paths[0], metadata={"Date": None})
            figure.savefig(paths[1], dpi=150)
        except OSError as error:
            raise KbsyncError(f"the figure {paths[0]} cannot be written: {error.strerror or error}") from error
    return paths


def look_of(names: Sequence[str]) -> dict[str, int]:
    """Return each series' number in the lists above; an editor has its own, others take what is left in order."""
    free = [place for place in range(len(COLOURS)) if place >= len(EDITORS)] if set(names) & set(EDITORS) else []
    free += [place for place in range(len(COLOURS)) if place not in free]
    found: dict[str, int] = {}
    for name in names:
        found[name] = EDITORS.index(name) if name in EDITORS else free[len(found) % len(free)]
    return found


def draw_lines(axes: "Axes", drawing: "Lines") -> None:
    """Draw lines with their bands."""
    from matplotlib.ticker import LogFormatter, MaxNLocator

    looks = look_of([line.name for line in drawing.lines if not line.dotted])
    for line in drawing.lines:
        draw_line(axes, line, looks.get(line.name))
    if drawing.logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(LogFormatter())  # numbers within a decade, where the axis has few
    elif all(float(x).is_integer() for line in drawing.lines for x in line.x):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(drawing.across)
    axes.set_ylabel(drawing.up)
    axes.grid(alpha=0.25)


def draw_line(axes: "Axes", line: "Line", look: int | None) -> None:
    """Draw one line; one without a look is dotted and black."""
    y = [float("nan") if value is None else value for value in line.y]
    if look is None:
        axes.plot(line.x, y, color="black", linestyle=":", linewidth=1.4, label=line.name)
        return
    style: dict[str, Any] = {"color": COLOURS[look], "marker": MARKERS[look], "linestyle": STYLES[look]}
    axes.plot(line.x, y, markersize=4, linewidth=1.3, label=line.name, **style)
    if line.low and line.high:
        low, high = ([float("nan") if value is None else value for value in side] for side in (line.low, line.high))
        axes.fill_between(line.x, low, high, color=COLOURS[look], alpha=0.15, linewidth=0)


def draw_bars(axes: "Axes", drawing: "Bars") -> None:
    """Draw bars beside each other in each group."""
    width = 0.8 / len(drawing.series)
    for place, (name, look) in enumerate(look_of(list(drawing.series)).items()):
        values = [float("nan") if value is None else value for value in drawing.series[name]]
        across = [group - 0.4 + width * (place + 0.5) for group in range(len(drawing.groups))]
        axes.bar(
            across,
            values,
            width,
            label=name,
            color=COLOURS[look],
            hatch=HATCHES[look],
            edgecolor="white",
            linewidth=0.5,
        )
    axes.set_xticks(range(len(drawing.groups)), drawing.groups)
    axes.set_xlim(-0.5, len(drawing.groups) - 0.5)  # groups without a bar too
    if drawing.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    elif not any(value for values in drawing.series.values() for value in values):
        axes.set_ylim(0, 1)
    if drawing.across:
        axes.set_xlabel(drawing.across)
    axes.set_ylabel(drawing.up)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)


def draw_points(axes: "Axes", drawing: "Points") -> None:
    """Draw single points."""
    for name, look in look_of(list(drawing.series)).items():
        x, y = [point[0] for point in drawing.series[name]], [point[1] for point in drawing.series[name]]
        axes.scatter(x, y, label=name, color=COLOURS[look], marker=MARKERS[look], s=28)
    axes.set_xlabel(drawing.across)
    axes.set_ylabel(drawing.up)
    axes.grid(alpha=0.25)


def draw_heat(axes: "Axes", drawing: "Heat") -> None:
    """Draw a map in shades that run from light to dark, with its scale."""
    image = axes.imshow(drawing.values, aspect="auto", cmap="Purples", interpolation="nearest")
    axes.set_xticks(range(len(drawing.columns)), drawing.columns)
    axes.set_yticks(range(len(drawing.rows)), drawing.rows)
    axes.set_xlabel(drawing.across)
    axes.set_ylabel(drawing.up, labelpad=8)  # a browser's own letters may be wider
    axes.get_figure().colorbar(image, ax=axes, label=drawing.unit)  # type: ignore[union-attr]


DRAWERS: Mapping[str, Callable[["Axes", Any], None]] = {
    "Lines": draw_lines,
    "Bars": draw_bars,
    "Points": draw_points,
    "Heat": draw_heat,
}
"""a drawing's type, by name since the report knows results by their types alone"""
