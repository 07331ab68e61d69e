"""Tables of plain values."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

FOLDED = 16
"""columns that a column of longer texts may be folded to"""
GAP = 3
"""columns between two of a table's"""

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
