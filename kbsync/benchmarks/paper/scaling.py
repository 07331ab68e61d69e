"""Figure 5: each editor over the number of edits, n = exp(ln(N) i / 16), prefixes of one seeded order."""

import math
from collections.abc import Sequence

from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.benchmarks.paper.counterfact import editor_row
from kbsync.benchmarks.paper.experiment import Experiment, Line, Lines, Result, Row

__all__ = ["SCALING", "numbers_of_edits"]

BASE = "none"
SHOWN = {
    "S": "S, %",
    "ES": "ES, %",
    "PS": "PS, %",
    "NS": "NS, %",
    "GE": "GE, bits x 100",
    "RS": "RS, cosine x 100",
}


def numbers_of_edits(largest: int, points: int, also: Sequence[int] = ()) -> list[int]:
    """Return exp(ln(largest) i / points) for i = 0..points, rounded, each once, with those of `also` that are less."""
    curve = {round(math.exp(math.log(largest) * i / points)) for i in range(points + 1)}
    return sorted(curve | {count for count in also if count < largest})


def run(bench: PaperBench) -> Result:
    """Measure each editor at each number; the base model at the largest alone."""
    counts = numbers_of_edits(bench.largest, bench.sizes.points, bench.sizes.also)
    # The largest first: what is kept of it serves the smaller ones.
    rows = [
        editor_row(bench, name, count)
        for name in bench.editors
        for count in ([bench.largest] if name == BASE else reversed(counts))
    ]
    rows.sort(key=lambda row: (bench.editors.index(row["editor"]), row["edits"]))
    drawings = tuple(drawing(metric, rows, counts) for metric in SHOWN if any(metric in row for row in rows))
    note = (
        f"Prefixes of one seeded order, each solved anew from the base; up to {bench.sizes.measured} cases of each"
        f" number are measured ({bench.sizes.generated} for GE and RS). Bands are 95% intervals over those cases; the"
        " dotted line is the base model on the cases of the largest number."
    )
    return Result(tuple(rows), drawings, note)


def drawing(metric: str, rows: Sequence[Row], counts: Sequence[int]) -> Lines:
    """Return one metric's lines."""
    lines = []
    for name in dict.fromkeys(row["editor"] for row in rows):
        own = [row for row in rows if row["editor"] == name and metric in row]
        if name == BASE:
            own = [{**row, "edits": count} for row in own for count in (counts[0], counts[-1])]
        lines.append(
            Line(
                "base model" if name == BASE else name,
                tuple(row["edits"] for row in own),
                tuple(row[metric] for row in own),
                () if name == BASE else tuple(row[f"{metric}_low"] for row in own),
                () if name == BASE else tuple(row[f"{metric}_high"] for row in own),
                dotted=name == BASE,
            )
        )
    return Lines(f"scaling-{metric}", metric, "edits", SHOWN[metric], tuple(lines), logarithmic=True)


SCALING = Experiment("scaling", "Over the number of edits", "Figure 5", run)
