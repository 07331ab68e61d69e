"""Where output goes: results to stdout, as tables or JSON, and everything else, progress too, to stderr."""

import json
import math
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, TypeVar

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from kbsync import __version__
from kbsync.errors import KbsyncError
from kbsync.files import writing


def json_text(value: object, *, ascii_only: bool) -> Iterator[str]:
    """Yield `value` as JSON: an entry a line, and of a list right under the top an item a line, as it comes."""
    dump = partial(json.dumps, ensure_ascii=ascii_only, allow_nan=False)
    entries = _entries(value)
    if not entries:
        yield dump(to_plain(value)) + "\n"
        return
    before = "{\n"
    for name, item in entries.items():
        yield f"{before}  {dump(str(name))}: "
        before = ",\n"
        if isinstance(item, Iterable) and not isinstance(item, str | Mapping):
            opening = "[\n    "
            for one in item:
                yield opening
                yield from _pieces(one, dump)
                opening = ",\n    "
            yield "[]" if opening.startswith("[") else "\n  ]"
        else:
            yield dump(to_plain(item))
    yield "\n}\n"


def _pieces(value: object, dump: Callable[[object], str]) -> Iterator[str]:
    """Yield an item of a list on one line; what it holds that has no length, such as a pull's changes, as it comes."""
    entries = _entries(value)
    if not any(isinstance(item, Iterable) and not isinstance(item, Sized) for item in entries.values()):
        yield dump(to_plain(value))
        return
    before = "{"
    for name, item in entries.items():
        yield f"{before}{dump(str(name))}: "
        before = ", "
        if isinstance(item, Iterable) and not isinstance(item, Sized):
            opening = "["
            for one in item:
                yield opening + dump(to_plain(one))
                opening = ", "
            yield "[]" if opening == "[" else "]"
        else:
            yield dump(to_plain(item))
    yield "}"


def to_plain(value: object) -> object:
    """Turn dataclasses, paths, dates and collections into what JSON has; raise TypeError for anything else.

    JSON has no NaN and no infinity: both are null.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if entries := _entries(value):
        return {str(key): to_plain(item) for key, item in entries.items()}
    if isinstance(value, Mapping):
        return {}
    if isinstance(value, PurePath | date):
        return str(value)
    if isinstance(value, Iterable):
        return [to_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def fields_of(value: object, *names: str) -> dict[str, Any]:
    """Return these fields of a result, for a JSON that has not all of them, or others too."""
    return {name: getattr(value, name) for name in names}


def _entries(value: object) -> Mapping[object, object]:
    """Return the entries of a mapping or dataclass, as they are; none of anything else."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return value if isinstance(value, Mapping) else {}


FOLDED = 16  # columns that a column of longer texts may be folded to
GAP = 3  # columns between two of a table's

_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def plain(value: object) -> Text:
    """Return `value` as text that is shown as it is (labels come from afar).

    It has no markup, no control characters, and none that turn the direction of what stands behind it.
    """
    text = "" if value is None else str(value)
    return Text("".join("�" if _harmful(letter) else letter for letter in text))


def _harmful(letter: str) -> bool:
    return letter in _TURNING or (letter != "\n" and unicodedata.category(letter) in ("Cc", "Cs"))


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows that are shown as a table or, where the terminal is too narrow for one, each as a paragraph.

    No figure and no short word is ever cut or parted: columns of longer texts fold, and where even that is not enough,
    a row becomes ``column: value`` after another.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        texts = [[plain(value) for value in row] for row in self.rows]
        columns = zip(self.columns, *texts, strict=True)
        natural = [max(cell_len(str(cell)) for cell in column) for column in columns]
        least = sum(min(width, FOLDED) for width in natural) + GAP * (len(natural) - 1)
        if least <= options.max_width:
            yield self._as_table(texts, natural)
        else:
            yield from self._as_records(texts)

    def _as_table(self, texts: Sequence[Sequence[Text]], natural: Sequence[int]) -> Table:
        result = Table(title=self.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for at, name in enumerate(self.columns):
            numbers = bool(self.rows) and all(isinstance(row[at], int | float) for row in self.rows)
            short = natural[at] <= FOLDED
            result.add_column(name, justify="right" if numbers else "left", overflow="fold", no_wrap=short)
        for row in texts:
            result.add_row(*row)
        return result

    def _as_records(self, texts: Sequence[Sequence[Text]]) -> Iterator[RenderableType]:
        if self.title is not None:
            yield plain(self.title)
        for row in texts:
            named = [(f"{name}: " if name else "", text) for name, text in zip(self.columns, row, strict=True)]
            yield Text("  ").join(Text.assemble(*pair) for pair in named if pair[1].plain)
            yield Text("")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> Sheet:
    """Return a table; a column whose values are all numbers is set to the right, None shows as nothing."""
    return Sheet(columns, [list(row) for row in rows], title)


_PIPE_WIDTH = 200  # columns where no terminal says how many there are: tables are read by programs then, so not cut

Result = TypeVar("Result")

Parts = Iterator[RenderableType]
"""what a view yields: tables and lines of text, one under the other"""
Shown = RenderableType | Iterator[RenderableType | Parts]


def stacked(shown: "Shown") -> RenderableType:
    """Return what a view gives as one to print; text is shown as it is."""
    if isinstance(shown, str):
        return plain(shown)
    return Group(*map(stacked, shown)) if isinstance(shown, Iterator) else shown


def tell(*shown: RenderableType | Parts) -> None:
    """Print remarks on stderr."""
    _console(stderr=True).print(stacked(iter(shown)))


def emit(
    result: Result,
    view: Callable[[Result], RenderableType | Parts],
    json_form: Callable[[Result], object] = lambda result: result,
    *,
    as_json: bool,
) -> None:
    """Print `result` on stdout: as JSON, of its fields or of what `json_form` makes of it, or as what `view` yields."""
    try:
        if as_json:
            # Escapes where the terminal's encoding cannot show every letter, so that the JSON stays whole.
            ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
            sys.stdout.writelines(json_text(json_form(result), ascii_only=ascii_only))
        else:
            _console(stderr=False).print(stacked(view(result)))
        sys.stdout.flush()  # a closed pipe shows here, where it is dealt with, and not when Python exits
    except BrokenPipeError:
        raise
    except OSError as error:
        _let_go()
        reason = error.strerror or error
        raise KbsyncError(
            f"the result cannot be written to standard output ({reason}); the command itself has finished"
        ) from None


def emit_text(text: str, to: Path | None) -> None:
    """Write a page to a file, whole or not at all, or to stdout; raises WriteError where it cannot be written."""
    if to is None:
        emit(text, plain, as_json=False)
        return
    new = to.with_name(f".{to.name}.{os.getpid()}")
    with writing(to):
        try:
            new.write_text(text, encoding="utf-8")
            new.replace(to)
        finally:
            new.unlink(missing_ok=True)


def page(template: str, filters: Mapping[str, Callable[..., object]] = MappingProxyType({}), **values: object) -> str:
    """Return one of the pages beside this file, filled with `values`, the version and the time."""
    from jinja2 import Environment, PackageLoader, select_autoescape  # here, as the other views need none of it

    pages = Environment(loader=PackageLoader("kbsync.report", "pages"), autoescape=select_autoescape(["html.j2"]))
    pages.filters.update(filters)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return pages.get_template(template).render(version=__version__, made=made, **values)


def _let_go() -> None:
    """Let what is still to be written to stdout go nowhere, or Python would try again as it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _console(*, stderr: bool) -> Console:
    if (sys.stderr if stderr else sys.stdout).isatty():
        return Console(stderr=stderr, highlight=False)
    # soft_wrap leaves a line of text whole, so that `| grep` finds what stands in it; a table's cells still fold.
    return Console(stderr=stderr, highlight=False, width=_PIPE_WIDTH, soft_wrap=True)


class Reporter:
    """Called as ``report(phase, done, total)``; this one shows no progress.

    A total of 0 says that it is not known. What follows a colon in `phase` may change as it goes on.
    """

    def __init__(self, console: Console, verbose: bool) -> None:
        self.console, self.verbose = console, verbose

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Show how far a phase is."""

    def pause(self) -> None:
        """Leave the terminal to others until the next call."""

    def remark(self, text: str) -> None:
        """Show a remark on how the work is done, under ``--verbose``."""
        if self.verbose:
            self.console.print(plain(text))


class Lines(Reporter):
    """A line as each phase begins and, of a long one, every minute, where there is no terminal to draw on."""

    every = 60.0
    """seconds"""

    def __init__(self, console: Console, verbose: bool) -> None:
        super().__init__(console, verbose)
        self.seen: set[str] = set()
        self.due = 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        begins, now = _name(phase) not in self.seen, time.monotonic()
        if begins or now >= self.due:
            self.seen.add(_name(phase))
            self.due = now + self.every
            self.console.print(plain(phase if begins else f"{phase} {done}" + (f"/{total}" if total else "")))


class Bars(Reporter):
    def __init__(self, bars: Progress, verbose: bool) -> None:
        super().__init__(bars.console, verbose)
        self.bars = bars
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, phase: str, done: int, total: int) -> None:
        self.bars.start()
        name = _name(phase)
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(phase, total=None)
        self.bars.update(self.tasks[name], completed=done, total=total or None, description=phase)

    def pause(self) -> None:
        self.bars.stop()


def _name(phase: str) -> str:
    return phase.partition(":")[0]


@contextmanager
def progress(*, quiet: bool = False, verbose: bool = False) -> Iterator[Reporter]:
    """Give a function that shows how far each phase is: a bar in a terminal, else a line now and then.

    `quiet` (``--json``) shows none; `verbose` lets remarks through in either case.
    """
    console = _console(stderr=True)
    if quiet:
        yield Reporter(console, verbose)
    elif not console.is_terminal:
        yield Lines(console, verbose)
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        bars = Progress(*columns, console=console)
        try:
            yield Bars(bars, verbose)
        finally:
            bars.stop()
