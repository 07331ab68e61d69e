"""Figure 11: other choices of R, the edited layers."""

from collections.abc import Sequence
from dataclasses import replace

from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.benchmarks.paper.experiment import Bars, Experiment, Result, Row

__all__ = ["LAYERS", "choices"]

METRICS = ("ES", "PS", "NS", "recall")
SHOWN = ("S", "ES", "PS", "NS", "recall")
EDITOR = "memit"
CHOICES = 5


def choices(own: Sequence[int], depth: int) -> list[tuple[int, ...]]:
    """Return five choices of R, fewer where the model is too small for them; the model's own is first.

    The others are its last layer alone, as many layers in the middle, as many at the top, twice as many, and, where two
    of these are the same, as many one block up. L is below the last block, as for any edit.
    """
    count, top = len(own), depth - 2
    middle = max(0, min(depth // 2, top - count + 1))
    found = [
        tuple(own),
        (own[-1],),
        tuple(range(middle, middle + count)),
        tuple(range(max(0, top - count + 1), top + 1)),
        tuple(range(own[0], min(top, own[-1] + count) + 1)),
        tuple(range(own[0] + 1, min(top, own[-1] + 1) + 1)),
    ]
    return [layers for layers in dict.fromkeys(found) if layers][:CHOICES]


def run(bench: PaperBench) -> Result:
    """Measure MEMIT with each choice; target vectors are found anew for each L."""
    cases = bench.counterfact[: bench.sizes.layers]
    tried = choices(bench.own_layers, len(bench.loaded.family.block_list(bench.loaded.model)))
    bench.covariances(sorted({layer for layers in tried for layer in layers}))  # one pass over the text for all
    rows: list[Row] = []
    for layers in tried:
        figures = bench.measured(EDITOR, cases, METRICS, replace(bench.settings, layers=layers))
        rows.append({"layers": " ".join(map(str, layers)), "edits": len(cases), **figures})
    bars = Bars(
        "layers",
        f"MEMIT, {len(cases)} edits, by edited layers",
        "%",
        tuple(row["layers"] for row in rows),
        {metric: tuple(row.get(metric) for row in rows) for metric in SHOWN},
    )
    return Result(tuple(rows), (bars,), "The first choice is the model's own; the others keep its other settings.")


LAYERS = Experiment("layers", "Edited layers", "Figure 11", run)
