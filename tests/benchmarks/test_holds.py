"""Held facts on a small model: every trial is there, and the table and the plot show them."""

import io
from pathlib import Path

from rich.console import Console

from kbsync.benchmarks.holds import run_holds
from kbsync.memit import MemitSettings
from kbsync.models import LoadedModel
from kbsync.report.bench_holds import holds_view, plot_holds
from kbsync.workflows.choice import ModelChoice
from tests.homes import small_model
from tests.tiny_models import FACTS, known

__all__ = ["known"]

SETTINGS = MemitSettings(
    layers=(0,), lambda_=0.1, steps=8, lr=2.0, clamp_norm_factor=4.0, weight_decay=0.01, sweeps=2, contexts=1, hold=6
)


def test_weights_loads_and_ways(known: LoadedModel, tmp_path: Path) -> None:
    corpus = small_model(Path(known.source).parent).corpus
    choice = ModelChoice("known", known, SETTINGS, corpus, None)
    bench = run_holds(choice, FACTS, (2, 4), (0.0, 5.0))
    assert [(one.edits, one.sweeps, one.weight) for one in bench.trials] == [
        (edits, sweeps, weight) for edits in (2, 4) for sweeps in (1, 2) for weight in (0.0, 5.0)
    ]
    assert {one.held for one in bench.trials if one.weight} == {6}
    assert {one.held for one in bench.trials if not one.weight} == {0}
    for free, held in zip(bench.trials[::2], bench.trials[1::2], strict=True):
        assert held.held_known >= free.held_known
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(holds_view(bench))
    assert "held facts on known" in console.export_text()
    assert [path.suffix for path in plot_holds(bench, tmp_path / "holds.png")] == [".png", ".svg"]
