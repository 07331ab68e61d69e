"""Tables of plain values."""

import unicodedata
from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

__all__ = ["plain", "table"]

_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def plain(value: object) -> Text:
    """Return `value` as text that is shown as it is (labels come from afar).

    It has no markup, no control characters, and none that turn the direction of what stands behind it.
    """
    text = "" if value is None else str(value)
    return Text("".join("�" if _harmful(letter) else letter for letter in text))


def _harmful(letter: str) -> bool:
    return letter in _TURNING or (letter != "\n" and unicodedata.category(letter) in ("Cc", "Cs"))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> Table:
    """Return a table; a column whose values are all numbers is set to the right, None shows as nothing."""
    cells = [list(row) for row in rows]
    result = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        numbers = bool(cells) and all(isinstance(row[index], int | float) for row in cells)
        result.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in cells:
        result.add_row(*(plain(value) for value in row))
    return result
