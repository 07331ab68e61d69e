"""Figure 11: other choices of R, the edited layers."""

from collections.abc import Sequence
from dataclasses import replace

from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.benchmarks.paper.experiment import Bars, Experiment, Result, Row

__all__ = ["LAYERS", "choices"]

METRICS = ("ES", "PS", "NS", "recall")
SHOWN = ("S", "ES", "PS", "NS", "recall")
EDITOR = "memit"


def choices(own: Sequence[int], depth: int) -> list[tuple[int, ...]]:
    """Return the model's R, its last layer alone, as many layers in the middle, as many at the top, and twice as many.

    L is below the last block, since a target vector there would be read by the head alone. Each choice stands once.
    """
    count, top = len(own), depth - 2
    middle = max(0, min(depth // 2, top - count + 1))
    wide_end = min(top, own[-1] + count)
    found = [
        tuple(own),
        (own[-1],),
        tuple(range(middle, middle + count)),
        tuple(range(max(0, top - count + 1), top + 1)),
        tuple(range(own[0], wide_end + 1)),
    ]
    return list(dict.fromkeys(found))


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
