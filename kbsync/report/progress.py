"""Progress on stderr, handed to the parts below as a plain function."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from kbsync.report.console import log_console
from kbsync.report.tables import plain


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
    """A line as each phase begins, where there is no terminal to draw on."""

    def __init__(self, console: Console, verbose: bool) -> None:
        super().__init__(console, verbose)
        self.seen: set[str] = set()

    def __call__(self, phase: str, done: int, total: int) -> None:
        if _name(phase) not in self.seen:
            self.seen.add(_name(phase))
            self.console.print(plain(phase))


class Bars(Reporter):
    """A bar for each phase."""

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
    """Give a function that shows how far each phase is: a bar in a terminal, else a line as each phase begins.

    `quiet` (``--json``) shows none; `verbose` lets remarks through in either case.
    """
    console = log_console()
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
