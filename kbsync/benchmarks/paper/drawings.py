"""Figures of the experiments: data, and how each kind is drawn. One look for all, readable in black and white.

Series differ by marker, line style and hatching, and by colours of unlike lightness.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbsync.report.plots import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Bars", "Drawing", "Heat", "Line", "Lines", "Points", "Row", "bars_by_row", "line_with_band"]
__all__ += ["write_drawing"]

Row = dict[str, Any]
"""a flat row of a table; an interval stands in ``NAME_low`` and ``NAME_high``"""

SIZE = (6.4, 3.8)
"""inches"""
COLOURS = ("#08306b", "#d94801", "#238b45", "#807dba", "#6b6b6b", "#9ecae1", "#fd8d3c", "#54278f")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLES = ("-", "--", "-.", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (4, 1, 1, 1, 1, 1)))
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo", "+++", "---")
EDITORS = ("memit", "rome", "ft", "mend", "alphaedit", "none", "published")
"""keep their look in every figure, whichever of them are in it"""
LOOK: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "svg.fonttype": "none",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A named line; `low` and `high` are its band, where it has one. None in `y` is a gap."""

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    dotted: bool = False
    """black and dotted, for what the others are compared with"""

    def draw(self, axes: "Axes", look: int) -> None:
        """Draw the line in the look of this number."""
        if self.dotted:
            axes.plot(self.x, gaps(self.y), color="black", linestyle=":", linewidth=1.4, label=self.name)
            return
        style: dict[str, Any] = {"color": COLOURS[look], "marker": MARKERS[look], "linestyle": STYLES[look]}
        axes.plot(self.x, gaps(self.y), markersize=4, linewidth=1.3, label=self.name, **style)
        if self.low and self.high:
            band = gaps(self.low), gaps(self.high)
            axes.fill_between(self.x, *band, color=COLOURS[look], alpha=0.15, linewidth=0)


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines over one axis."""

    name: str
    title: str
    across: str
    up: str
    lines: tuple[Line, ...]
    logarithmic: bool = False
    """the axis across"""

    def draw(self, axes: "Axes") -> None:
        """Draw the lines with their bands."""
        from matplotlib.ticker import LogFormatter, MaxNLocator

        looks = looks_of([line.name for line in self.lines if not line.dotted])
        for line in self.lines:
            line.draw(axes, looks.get(line.name, 0))
        if self.logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_formatter(LogFormatter())  # numbers within a decade, where the axis has few
        elif all(float(x).is_integer() for line in self.lines for x in line.x):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=self.across, ylabel=self.up)
        axes.grid(alpha=0.25)


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars beside each other for each group; a series has a value for each group, None where there is none."""

    name: str
    title: str
    up: str
    groups: tuple[str, ...]
    series: Mapping[str, tuple[float | None, ...]]
    across: str = ""
    """what the groups are, where their names do not tell"""
    logarithmic: bool = False
    """the axis up"""

    def draw(self, axes: "Axes") -> None:
        """Draw the bars."""
        width = 0.8 / len(self.series)
        for place, (name, look) in enumerate(looks_of(list(self.series)).items()):
            across = [group - 0.4 + width * (place + 0.5) for group in range(len(self.groups))]
            style: dict[str, Any] = {"color": COLOURS[look], "hatch": HATCHES[look], "edgecolor": "white"}
            axes.bar(across, gaps(self.series[name]), width, label=name, linewidth=0.5, **style)
        axes.set_xticks(range(len(self.groups)), self.groups)
        axes.set_xlim(-0.5, len(self.groups) - 0.5)  # groups without a bar too
        if self.logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        elif not any(value for values in self.series.values() for value in values):
            axes.set_ylim(0, 1)
        axes.set(xlabel=self.across, ylabel=self.up)
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)


@dataclass(frozen=True, slots=True)
class Points:
    """Single points (x, y) for each series."""

    name: str
    title: str
    across: str
    up: str
    series: Mapping[str, tuple[tuple[float, float], ...]]

    def draw(self, axes: "Axes") -> None:
        """Draw the points."""
        for name, look in looks_of(list(self.series)).items():
            x, y = ([point[axis] for point in self.series[name]] for axis in (0, 1))
            axes.scatter(x, y, label=name, color=COLOURS[look], marker=MARKERS[look], s=28)
        axes.set(xlabel=self.across, ylabel=self.up)
        axes.grid(alpha=0.25)


@dataclass(frozen=True, slots=True)
class Heat:
    """A map of values, a list for each of `rows` with a value for each of `columns`."""

    name: str
    title: str
    across: str
    up: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    unit: str

    def draw(self, axes: "Axes") -> None:
        """Draw the map in shades that run from light to dark, with its scale."""
        image = axes.imshow(self.values, aspect="auto", cmap="Purples", interpolation="nearest")
        axes.set_xticks(range(len(self.columns)), self.columns)
        axes.set_yticks(range(len(self.rows)), self.rows)
        axes.set_xlabel(self.across)
        axes.set_ylabel(self.up, labelpad=8)  # a browser's own letters may be wider
        axes.get_figure().colorbar(image, ax=axes, label=self.unit)  # type: ignore[union-attr]


Drawing = Lines | Bars | Points | Heat


def bars_by_row(name: str, title: str, label: str, rows: Sequence[Row], metrics: Sequence[str]) -> Bars:
    """Return bars of `metrics` in percent, a group for each row, which the column `label` names."""
    series = {metric: tuple(row.get(metric) for row in rows) for metric in metrics}
    return Bars(name, title, "%", tuple(str(row[label]) for row in rows), series)


def line_with_band(name: str, rows: Sequence[Row], x: str, metric: str) -> Line:
    """Return a metric of rows over the column `x`, with its interval as the band."""
    y, low, high = (tuple(row.get(f"{metric}{part}") for row in rows) for part in ("", "_low", "_high"))
    return Line(name, tuple(row[x] for row in rows), y, low, high)


def gaps(values: Sequence[float | None]) -> list[float]:
    """Return values with NaN, which is not drawn, in place of None."""
    return [float("nan") if value is None else value for value in values]


def looks_of(names: Sequence[str]) -> dict[str, int]:
    """Return each series' number in the lists above; an editor has its own, others take what is left in order."""
    free = [place for place in range(len(COLOURS)) if place >= len(EDITORS)] if set(names) & set(EDITORS) else []
    free += [place for place in range(len(COLOURS)) if place not in free]
    found: dict[str, int] = {}
    for name in names:
        found[name] = EDITORS.index(name) if name in EDITORS else free[len(found) % len(free)]
    return found


def write_drawing(stem: Path, drawing: Drawing) -> Path:
    """Write ``STEM.svg`` and ``STEM.png``; return the first. KbsyncError where they cannot be written."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(LOOK):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        drawing.draw(axes)
        axes.set_title(drawing.title, wrap=True)
        handles, labels = axes.get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), frameon=False)
        _, svg = save_figure(figure, stem)
    return svg
