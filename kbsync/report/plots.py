"""Charts as files, PNG and SVG of the same figure. Series differ by marker, line style, hatching and lightness."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kbsync.files import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Row = dict[str, Any]
"""a flat row of a table; an interval stands in ``NAME_low`` and ``NAME_high``"""

SIZE = (6.4, 3.8)  # inches of a chart
COLUMNS = 3  # charts beside each other in a figure
COLOURS = (
    *("#08306b", "#d94801", "#238b45", "#807dba", "#6b6b6b", "#9ecae1", "#fd8d3c", "#54278f"),
    *("#a1d99b", "#bd0026", "#41b6c4"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")
STYLES = (
    *("-", "--", "-.", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (4, 1, 1, 1, 1, 1))),
    *((0, (2, 2)), (0, (6, 1)), (0, (1, 3))),
)
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo", "+++", "---", "//", "..", "xx")
EDITORS = ("memit", "rome", "ft", "mend", "alphaedit", "none", "published", "rome-published", "nas", "locft")
"""have the same look in every figure"""
LOOK: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "kbsync",
}


@dataclass(frozen=True, slots=True)
class Series:
    """A named line, row of points, or bar in each group; None in `y` is a gap, `low` and `high` are a line's band."""

    name: str
    x: tuple[Any, ...]
    """numbers or, of bars and maps, the names of groups"""
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    dotted: bool = False
    """black and dotted, for what the others are compared with"""


@dataclass(frozen=True, slots=True)
class Chart:
    """Series of one kind; of a map each is a row, with its values in the columns `x`, None for none."""

    kind: Literal["lines", "points", "bars", "map"]
    name: str
    title: str
    across: str
    up: str
    series: tuple[Series, ...]
    logarithmic: bool = False
    """the axis up of bars, the axis across of others"""
    unit: str = ""
    """of a map's values"""
    ticks: tuple[str, ...] = ()
    """names of 0, 1, ... on the axis up"""

    def draw(self, axes: "Axes") -> None:
        axes.set(xlabel=self.across, ylabel=self.up)
        if self.kind == "map":
            self.draw_map(axes)
            return
        axes.grid(axis="y" if self.kind == "bars" else "both", alpha=0.25)
        looks = looks_of([one.name for one in self.series if not one.dotted])
        for place, one in enumerate(self.series):
            look, y = looks.get(one.name, 0), gaps(one.y)
            if self.kind == "bars":
                width = 0.8 / len(self.series)
                across = [group - 0.4 + width * (place + 0.5) for group in range(len(one.x))]
                style: dict[str, Any] = {"color": COLOURS[look], "hatch": HATCHES[look], "edgecolor": "white"}
                axes.bar(across, y, width, label=one.name, linewidth=0.5, **style)
            elif self.kind == "points":
                axes.scatter(one.x, y, label=one.name, color=COLOURS[look], marker=MARKERS[look], s=28)
            elif one.dotted:
                axes.plot(one.x, y, color="black", linestyle=":", linewidth=1.4, label=one.name)
            else:
                style = {"color": COLOURS[look], "marker": MARKERS[look], "linestyle": STYLES[look]}
                axes.plot(one.x, y, markersize=4, linewidth=1.3, label=one.name, **style)
                if one.low:
                    axes.fill_between(one.x, gaps(one.low), gaps(one.high), color=COLOURS[look], alpha=0.15)
        self.scale(axes)

    def scale(self, axes: "Axes") -> None:
        """Set the ticks and the kind of both axes."""
        from matplotlib.ticker import LogFormatter, MaxNLocator

        if self.ticks:
            axes.set_yticks(range(len(self.ticks)), self.ticks)
        if self.kind == "bars":
            groups = self.series[0].x
            axes.set_xticks(range(len(groups)), [*map(str, groups)])
            axes.set_xlim(-0.5, len(groups) - 0.5)  # groups without a bar too
            axes.set_axisbelow(True)
            if not any(value for one in self.series for value in one.y):
                axes.set_ylim(0, 1)
            elif self.logarithmic:
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        elif self.logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_formatter(LogFormatter())  # numbers within a decade, where the axis has few
        elif all(float(x).is_integer() for one in self.series for x in one.x):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    def draw_map(self, axes: "Axes") -> None:
        """Draw values in shades that run from light to dark, with their scale."""
        columns, rows = self.series[0].x, [one.name for one in self.series]
        image = axes.imshow([gaps(one.y) for one in self.series], aspect="auto", cmap="Purples")
        axes.set_xticks(range(len(columns)), [*map(str, columns)])
        axes.set_yticks(range(len(rows)), rows)
        axes.yaxis.labelpad = 8  # a browser's own letters may be wider
        axes.get_figure().colorbar(image, ax=axes, label=self.unit)  # type: ignore[union-attr]


def bars_by_row(name: str, title: str, label: str, rows: Sequence[Row], metrics: Sequence[str]) -> Chart:
    """Return bars of `metrics` in percent, a group for each row, which the column `label` names."""
    groups = tuple(str(row[label]) for row in rows)
    series = tuple(Series(metric, groups, tuple(row.get(metric) for row in rows)) for metric in metrics)
    return Chart("bars", name, title, "", "%", series)


def with_band(name: str, rows: Sequence[Row], x: str, metric: str) -> Series:
    """Return a metric of rows over the column `x`, with its interval as the band."""
    y, low, high = (tuple(row.get(f"{metric}{part}") for row in rows) for part in ("", "_low", "_high"))
    return Series(name, tuple(row[x] for row in rows), y, low, high)


def gaps(values: Sequence[float | None]) -> list[float]:
    """Return values with NaN, which is not drawn, in place of None."""
    return [float("nan") if value is None else value for value in values]


def looks_of(names: Sequence[str]) -> dict[str, int]:
    """Return each series' number in the lists above; an editor has its own, others take what is left in order."""
    free = [place for place in range(len(COLOURS)) if place >= len(EDITORS)] if set(names) & set(EDITORS) else []
    free += [place for place in range(len(COLOURS)) if place not in free]
    return {
        name: EDITORS.index(name) if name in EDITORS else free[place % len(free)] for place, name in enumerate(names)
    }


def write_charts(path: Path, charts: Sequence[Chart]) -> list[Path]:
    """Write charts as one figure, as PNG and SVG; `path` gives folder and stem, and both paths are returned.

    The same charts give the same files. Raises WriteError where they cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    columns, rows = min(COLUMNS, len(charts)), -(-len(charts) // COLUMNS)
    written = [path.with_suffix(suffix) for suffix in (".png", ".svg")]
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(SIZE[0] * columns, SIZE[1] * rows), layout="constrained")
        named: dict[str, Any] = {}
        for axes, chart in zip(figure.subplots(rows, columns, squeeze=False).flat, charts, strict=False):
            chart.draw(axes)
            axes.set_title(chart.title, wrap=True)
            handles, labels = axes.get_legend_handles_labels()
            named |= dict(zip(labels, handles, strict=True))
        for axes in figure.axes[len(charts) : rows * columns]:
            axes.set_axis_off()
        if len(named) > 1:
            columns = min(6, len(named))
            figure.legend([*named.values()], [*named], loc="outside lower center", ncols=columns, frameon=False)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(written[0], dpi=130)
            figure.set_layout_engine("none")  # all is in its place by now
            figure.savefig(written[1], metadata={"Date": None})
    return written
