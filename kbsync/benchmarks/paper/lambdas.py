"""Figure 13: lambda, the weight of the covariance, over four decades around the model's own."""

from dataclasses import replace

from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.benchmarks.paper.experiment import Experiment, Line, Lines, Result, Row

__all__ = ["LAMBDA", "values"]

METRICS = ("ES", "PS", "NS", "recall")
SHOWN = ("S", "ES", "PS", "NS", "recall")
EDITOR = "memit"
DECADES = 4


def values(own: float, count: int) -> list[float]:
    """Return `count` values from own / 100 to 100 own, evenly on a log axis."""
    return [float(f"{own * 10 ** (DECADES * (place / (count - 1) - 0.5)):.4g}") for place in range(count)]


def run(bench: PaperBench) -> Result:
    """Measure MEMIT with each value, on the same target vectors."""
    cases = bench.counterfact[: bench.sizes.lambda_edits]
    rows: list[Row] = []
    for value in values(bench.settings.lambda_, bench.sizes.lambdas):
        figures = bench.measured(EDITOR, cases, METRICS, replace(bench.settings, lambda_=value))
        rows.append({"lambda": value, "edits": len(cases), **figures})
    across = tuple(row["lambda"] for row in rows)
    lines = tuple(
        Line(
            metric,
            across,
            tuple(row.get(metric) for row in rows),
            tuple(row.get(f"{metric}_low") for row in rows),
            tuple(row.get(f"{metric}_high") for row in rows),
        )
        for metric in SHOWN
    )
    drawing = Lines(
        "lambda", f"MEMIT, {len(cases)} edits, by lambda", "lambda (weight of C)", "%", lines, logarithmic=True
    )
    return Result(tuple(rows), (drawing,), f"The model's own lambda is {bench.settings.lambda_:g}.")


LAMBDA = Experiment("lambda", "Weight of the covariance", "Figure 13", run)
