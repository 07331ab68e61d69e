"""Tables 1 and 2 and Figure 5: every editor on zsRE, on CounterFact, and over the number of edits."""

import math
from collections.abc import Sequence

from kbsync.benchmarks.paper.bench import Experiment, PaperBench, Result
from kbsync.report.plots import Chart, Row, Series, with_band

KEPT = ("kept_same", "kept_others", "kept_unrelated", "kl_same", "kl_others", "kl_unrelated")
METRICS = ("ES", "PS", "NS", "recall", "perplexity", "GE", "RS", *KEPT)
ZSRE_METRICS = ("efficacy", "paraphrase", "specificity")
BASE = "none"
AXES = {"S": "S, %", "ES": "ES, %", "PS": "PS, %", "NS": "NS, %", "GE": "GE, bits x 100", "RS": "RS, cosine x 100"}
"""what Figure 5 shows, with its axis"""


def zsre(bench: PaperBench) -> Result:
    """Measure each editor on zsRE's questions: the share of an object's tokens that are the top answer."""
    cases = bench.zsre[: bench.sizes.zsre]
    rows: list[Row] = [
        {"editor": name, "edits": len(cases), **bench.measured(name, cases, ZSRE_METRICS)} for name in bench.rows
    ]
    bars = bars_by_editor("zsre", f"zsRE, {len(cases)} edits", rows, ("score", *ZSRE_METRICS))
    note = "Intervals are 95%, by bootstrap over the measured cases. Score is the harmonic mean of the other three."
    return Result(tuple(rows), (bars,), note)


def counterfact(bench: PaperBench) -> Result:
    """Measure each editor on counterfactual edits, at N of them and at the further numbers of the sizes."""
    counts = sorted({count for count in (*bench.sizes.also, bench.largest) if count <= bench.largest})
    rows = [editor_row(bench, name, count) for count in counts for name in bench.rows]
    last = [row for row in rows if row["edits"] == counts[-1]]
    bars = bars_by_editor("counterfact", f"CounterFact, {counts[-1]} edits", last, ("S", "ES", "PS", "NS"))
    note = (
        f"Edits in one seeded order. Measured: at most {bench.sizes.measured} cases of each number of edits, evenly"
        f" over the order; GE and RS on {bench.sizes.generated}; perplexity on {len(bench.held_out.lines)} lines of"
        f" {bench.held_out.corpus}. `published` is MEMIT as the paper has it: one sweep, one wording, each request by"
        " itself, and nothing that kbsync adds."
    )
    return Result(tuple(rows), (bars,), note)


def scaling(bench: PaperBench) -> Result:
    """Measure each editor at n = exp(ln(N) i / points), prefixes of one order; the base model at the largest alone."""
    counts = numbers_of_edits(bench.largest, bench.sizes.points, bench.sizes.also)
    # The largest first: what is kept of it serves the smaller ones.
    rows = [
        editor_row(bench, name, count)
        for name in bench.rows
        for count in ([bench.largest] if name == BASE else reversed(counts))
    ]
    rows.sort(key=lambda row: (bench.rows.index(row["editor"]), row["edits"]))
    charts = tuple(lines_of(metric, rows, counts) for metric in AXES if any(metric in row for row in rows))
    note = (
        f"Prefixes of one seeded order, each solved anew from the base; at most {bench.sizes.measured} cases of each"
        f" number are measured ({bench.sizes.generated} for GE and RS). Bands are 95% intervals over those cases; the"
        " dotted line is the base model on the cases of the largest number."
    )
    return Result(tuple(rows), charts, note)


def editor_row(bench: PaperBench, name: str, count: int) -> Row:
    """Return an editor's row for the first `count` edits of the order."""
    return {"editor": name, "edits": count, **bench.measured(name, bench.counterfact[:count], METRICS)}


def bars_by_editor(name: str, title: str, rows: Sequence[Row], metrics: tuple[str, ...]) -> Chart:
    """Return bars of each editor, a group for each metric."""
    series = tuple(Series(row["editor"], metrics, tuple(row.get(metric) for metric in metrics)) for row in rows)
    return Chart("bars", name, title, "", "%", series)


def numbers_of_edits(largest: int, points: int, also: Sequence[int] = ()) -> list[int]:
    """Return exp(ln(largest) i / points) for i = 0..points, rounded, each once, with those of `also` that are less."""
    curve = {round(math.exp(math.log(largest) * i / points)) for i in range(points + 1)}
    return sorted(curve | {count for count in also if count < largest})


def lines_of(metric: str, rows: Sequence[Row], counts: Sequence[int]) -> Chart:
    """Return one metric's lines."""
    lines = []
    for name in dict.fromkeys(row["editor"] for row in rows):
        own = [row for row in rows if row["editor"] == name and metric in row]
        if name == BASE:
            lines += [Series("base model", (counts[0], counts[-1]), (row[metric],) * 2, dotted=True) for row in own]
        else:
            lines.append(with_band(name, own, "edits", metric))
    return Chart("lines", f"scaling-{metric}", metric, "edits", AXES[metric], tuple(lines), logarithmic=True)


ZSRE = Experiment("zsre", "Questions of zsRE", "Table 1", zsre)
COUNTERFACT = Experiment("counterfact", "Counterfactual edits", "Table 2", counterfact)
SCALING = Experiment("scaling", "Over the number of edits", "Figure 5", scaling)
