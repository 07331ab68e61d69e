"""The month's table and plot."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from kbsync.benchmarks.sync import WAYS, plot_sync, sync_view
from kbsync.errors import KbsyncError
from kbsync.report.console import stacked

FIGURES = {"ES": 99.0, "NS": 80.0, "recall": 83.2, "withdrawn_restored": None, "perplexity": 3.44, "delta_norm": 12.5}
DAYS = [
    {
        "day": day,
        "active": 10 * day,
        "one_batch": 2e-5 * day,
        "ways": {way: {**FIGURES, "S": 60.0 + day} for way in WAYS},
    }
    for day in (1, 2)
]
BENCH = {
    **{"model": "practice", "source": "fixtures", "measured": 12, "requests": 24, "changes": 4, "withdrawals": 1},
    "days": DAYS,
}


def test_the_table_has_every_way_and_the_last_day() -> None:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(stacked(sync_view(BENCH)))
    text = console.export_text()
    assert "practice, day 2: 20 facts active, 12 of them measured" in text
    assert all(way in text for way in WAYS)
    assert "24 requests, 4 of them changes; 1 withdrawals" in text
    assert "4.0e-05" in text


def test_the_plot_is_two_files_and_the_same_each_time(tmp_path: Path) -> None:
    first = plot_sync(BENCH, tmp_path / "made" / "month.png")
    assert [path.name for path in first] == ["month.png", "month.svg"]
    assert first[0].read_bytes().startswith(b"\x89PNG")
    again = plot_sync(BENCH, tmp_path / "again" / "month.png")
    assert again[1].read_bytes() == first[1].read_bytes()
    assert b"<svg" in first[1].read_bytes()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KbsyncError, match=r"cannot write .*month"):
        plot_sync(BENCH, tmp_path / "file" / "month.png")
