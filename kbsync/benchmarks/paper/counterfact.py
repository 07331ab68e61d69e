"""Table 2: all editors on counterfactual edits, at N edits and at the further numbers that the sizes name."""

from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.benchmarks.paper.experiment import Bars, Experiment, Result, Row

__all__ = ["COUNTERFACT", "METRICS", "editor_row"]

METRICS = ("ES", "PS", "NS", "recall", "GE", "RS")
SHOWN = ("S", "ES", "PS", "NS")


def editor_row(bench: PaperBench, name: str, count: int) -> Row:
    """Return an editor's row for the first `count` edits of the order."""
    figures = bench.measured(name, bench.counterfact[:count], METRICS)
    return {"editor": name, "edits": count, **figures}


def run(bench: PaperBench) -> Result:
    """Measure each editor at each number of edits."""
    counts = sorted({count for count in (*bench.sizes.also, bench.largest) if count <= bench.largest})
    rows = [editor_row(bench, name, count) for count in counts for name in bench.editors]
    last = [row for row in rows if row["edits"] == counts[-1]]
    bars = Bars(
        "counterfact",
        f"CounterFact, {counts[-1]} edits",
        "%",
        SHOWN,
        {row["editor"]: tuple(row.get(metric) for metric in SHOWN) for row in last},
    )
    note = (
        f"Edits in one seeded order. Measured are {bench.sizes.measured} cases of each number of edits at most, evenly"
        f" over the order; GE and RS on {bench.sizes.generated}."
    )
    return Result(tuple(rows), (bars,), note)


COUNTERFACT = Experiment("counterfact", "Counterfactual edits", "Table 2", run)
