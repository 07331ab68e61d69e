"""Tables on terminals of any width: all that is in them is read there, whole."""

import io
import re
from collections.abc import Sequence

import pytest
from rich.console import Console

from kbsync.report.console import table

COLUMNS = ("", "batch", "when", "model", "state", "+", "~", "-", "active", "S", "recall", "perplexity", "seconds")
ROWS = [
    ("*", 12, "2026-11-27 03:22:11", "smollm2-135m", "done", 20, 3, 1, 251, "88.51", "96.70", "45.30", "1312.4"),
    (
        "",
        11,
        "2026-11-26 03:22:11",
        "someone/a-model-of-a-long-name",
        "rolled back",
        19,
        0,
        1,
        232,
        None,
        None,
        None,
        None,
    ),
]


def shown(columns: tuple[str, ...], rows: Sequence[tuple[object, ...]], width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table(columns, rows, title="title"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [24, 40, 80, 100, 200])
def test_every_figure_and_word_is_whole_at_any_width(width: int) -> None:
    text = shown(COLUMNS, ROWS, width)
    assert all(len(line) <= width for line in text.splitlines())
    assert text.startswith("title")
    words = text.split()
    for row in ROWS:
        for value in row:
            assert value is None or value == "someone/a-model-of-a-long-name" or set(str(value).split()) <= set(words)
    assert "someone/a-model-of-a-long-name" in re.sub(r"\s", "", text) or width == 100  # folded beside other columns


def test_a_narrow_terminal_names_each_figure() -> None:
    text = " ".join(shown(COLUMNS, ROWS, 40).split())
    assert "batch: 12 when: 2026-11-27 03:22:11 model: smollm2-135m state: done +: 20 ~: 3 -: 1" in text
    assert "recall: 96.70 perplexity: 45.30 seconds: 1312.4" in text
    assert "recall: None" not in text


def test_long_texts_fold_beside_short_ones() -> None:
    rows: list[tuple[object, ...]] = [("+", "a subject of so many words that it folds", "Paris", 12.5)]
    lines = shown(("", "subject", "object", "%"), rows, 40).splitlines()
    assert any(line.startswith(" +") or line.startswith("+") for line in lines)
    assert sum("Paris" in line and "12.5" in line for line in lines) == 1
    assert "%" in lines[2]
