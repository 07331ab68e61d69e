"""What an experiment is, and what it gives: rows, and drawings as data. How they look is the report's matter."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kbsync.benchmarks.paper.bench import PaperBench

__all__ = ["Bars", "Drawing", "Experiment", "Heat", "Line", "Lines", "Points", "Result", "Row"]

Row = dict[str, Any]
"""a flat row of a table; an interval stands in ``NAME_low`` and ``NAME_high``"""


@dataclass(frozen=True, slots=True)
class Line:
    """A named line; `low` and `high` are its band, where it has one. None in `y` is a gap."""

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    dotted: bool = False
    """for what is compared with: the base model"""


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


@dataclass(frozen=True, slots=True)
class Points:
    """Single points (x, y) for each series."""

    name: str
    title: str
    across: str
    up: str
    series: Mapping[str, tuple[tuple[float, float], ...]]


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


Drawing = Lines | Bars | Points | Heat


@dataclass(frozen=True, slots=True)
class Result:
    """What an experiment gave."""

    rows: tuple[Row, ...]
    drawings: tuple[Drawing, ...] = ()
    note: str = ""
    """what was measured on what, for the reader of the page"""


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment of the paper."""

    name: str
    title: str
    paper: str
    """the table or figure that it is made after"""
    run: Callable[["PaperBench"], Result]
