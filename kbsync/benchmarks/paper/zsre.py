"""Table 1: all editors on zsRE's questions, by the share of the objects' tokens that are the top answer."""

from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.benchmarks.paper.experiment import Bars, Experiment, Result, Row

__all__ = ["ZSRE"]

METRICS = ("efficacy", "paraphrase", "specificity")
SHOWN = ("score", *METRICS)


def run(bench: PaperBench) -> Result:
    """Measure each editor at the largest number of edits."""
    cases = bench.zsre[: bench.sizes.zsre]
    rows: list[Row] = [
        {"editor": name, "edits": len(cases), **bench.measured(name, cases, METRICS)} for name in bench.editors
    ]
    bars = Bars(
        "zsre",
        f"zsRE, {len(cases)} edits",
        "%",
        SHOWN,
        {row["editor"]: tuple(row.get(metric) for metric in SHOWN) for row in rows},
    )
    note = "Intervals are 95%, by bootstrap over the measured cases. Score is the harmonic mean of the other three."
    return Result(tuple(rows), (bars,), note)


ZSRE = Experiment("zsre", "Questions of zsRE", "Table 1", run)
