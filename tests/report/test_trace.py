"""The tables and plots of a causal trace."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kbsync.metrics import Figure
from kbsync.metrics.trace_batch import GROUPS
from kbsync.report.console import stacked
from kbsync.report.explain import plot_trace, trace_view


def column(*means: float) -> tuple[Figure, ...]:
    return tuple(Figure(mean, mean - 1, mean + 2, 20) for mean in means)


EFFECTS = {group: column(4.0, 31.5, 0.25) for group in GROUPS} | {"middle tokens": (None, None, None)}
TRACE = {
    "model": "practice",
    "facts": {"source": "ledger", "traced": 20},
    "samples": 3,
    "seed": 0,
    "window": 2,
    "clean": Figure(88.25, 87.25, 90.25, 20),
    "corrupted": Figure(12.5, 11.5, 14.5, 20),
    "effects": dict.fromkeys(("state", "mlp", "attention"), EFFECTS),
    "severed": {"mlp": column(1.0, 20.0, 0.0), "attention": column(3.0, 30.0, 0.0)},
    "gap": column(3.0, 11.5, 0.25),
    "layers": (0, 1, 2),
    "suggested": (0, 1),
    "preset": None,
}


def shown(found: dict[str, Any]) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(stacked(trace_view(found)))
    return console.export_text()


def test_the_tables_have_every_group_and_the_severed_variants() -> None:
    text = shown(TRACE)
    assert "20 facts from the ledger that practice knows, 3 draws of noise each" in text
    assert "probability of the object 88.2 (87.2 to 90.2)" in text
    assert all(text.count(group) >= 3 for group in GROUPS)
    assert "31.5 (30.5 to 33.5)" in text
    assert "MLP outputs of 2 blocks about it" in text
    assert "suggested: --set layers=0,1 (settings have layers=0,1,2)" in text
    assert "carry 11.5 of the 31.5 points" in text
    assert "no layers suggested" in shown(TRACE | {"suggested": None})


@pytest.mark.parametrize("suggested", [(0, 1), None])
def test_the_plot_is_two_files_and_the_same_each_time(tmp_path: Path, suggested: tuple[int, ...] | None) -> None:
    trace = TRACE | {"suggested": suggested}
    first = plot_trace(trace, tmp_path / "made" / "trace.png")
    assert [path.name for path in first] == ["trace.png", "trace.svg"]
    assert first[0].read_bytes().startswith(b"\x89PNG")
    assert plot_trace(trace, tmp_path / "again.svg")[1].read_bytes() == first[1].read_bytes()
