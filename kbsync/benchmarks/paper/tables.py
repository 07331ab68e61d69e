"""Tables 1 and 2 and Figure 5: every editor on zsRE, on CounterFact, and over the number of edits.

Figures 6, 7 and 10: edits of one relation at a time, and of two relations together.
"""

import math
import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

from kbsync.benchmarks.paper.bench import PaperBench, Result
from kbsync.metrics import Case
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
        f" over the order; GE and RS on {bench.sizes.generated}, RS against {bench.data.references}; perplexity on"
        f" {len(bench.held_out.lines)} lines of {bench.held_out.corpus}. `published` is MEMIT as the paper has it: one"
        " sweep, one wording, each request by itself, and nothing that kbsync adds."
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
    return {"editor": name, "edits": count, **bench.measured(name, bench.counterfact[:count], METRICS)}


def bars_by_editor(name: str, title: str, rows: Sequence[Row], metrics: tuple[str, ...]) -> Chart:
    series = tuple(Series(row["editor"], metrics, tuple(row.get(metric) for metric in metrics)) for row in rows)
    return Chart("bars", name, title, "", "%", series)


def numbers_of_edits(largest: int, points: int, also: Sequence[int] = ()) -> list[int]:
    """Return exp(ln(largest) i / points) for i = 0..points, rounded, each once, with those of `also` that are less."""
    curve = {round(math.exp(math.log(largest) * i / points)) for i in range(points + 1)}
    return sorted(curve | {count for count in also if count < largest})


def lines_of(metric: str, rows: Sequence[Row], counts: Sequence[int]) -> Chart:
    lines = []
    for name in dict.fromkeys(row["editor"] for row in rows):
        own = [row for row in rows if row["editor"] == name and metric in row]
        if name == BASE:
            lines += [Series("base model", (counts[0], counts[-1]), (row[metric],) * 2, dotted=True) for row in own]
        else:
            lines.append(with_band(name, own, "edits", metric))
    return Chart("lines", f"scaling-{metric}", metric, "edits", AXES[metric], tuple(lines), logarithmic=True)


RELATION_METRICS = ("ES", "PS", "NS", "recall")
LEAST = 4  # edits that a mixture needs of each relation to be measured
KINDS = {
    ("P27", "P37"): "unlike subjects (people, countries), unlike objects (countries, languages)",
    ("P413", "P1412"): "like subjects (people), unlike objects (positions in a team, languages)",
    ("P17", "P495"): "unlike subjects (places, works), like objects (countries)",
    ("P27", "P937"): "like subjects (people), like objects (countries, cities)",
    ("P17", "P27"): "unlike subjects (places, people), like objects (countries)",
    ("P37", "P30"): "like subjects (countries), unlike objects (languages, continents)",
    ("P19", "P20"): "like subjects (people), like objects (cities)",
    ("P27", "P159"): "unlike subjects (people, companies), unlike objects (countries, cities)",
}
"""pairs that are mixed first, with what is alike in them: the paper's four, those that stand for them where a data set
lacks some; after them, the relations of the most records"""


def categories(bench: PaperBench) -> Result:
    """Measure each editor on the relations of the most records, each relation written alone."""
    relations = largest_relations(bench)[: bench.sizes.categories]
    rows: list[Row] = []
    for relation in relations:
        cases = of_relation(bench, relation, bench.sizes.category_edits)
        rows += [
            {"relation": relation, "editor": name, "edits": len(cases), **bench.measured(name, cases, RELATION_METRICS)}
            for name in bench.rows
        ]
    scores, points = [], []
    for name in bench.rows:
        own = [row for row in rows if row["editor"] == name]
        scores.append(Series(name, tuple(relations), tuple(row.get("S") for row in own)))
        both = [row for row in own if {"PS", "NS"} <= row.keys()]
        points.append(Series(name, tuple(row["PS"] for row in both), tuple(row["NS"] for row in both)))
    axes = ("PS (generalization), %", "NS (specificity), %")
    title = "Specificity against generalization, a point a relation"
    charts = (
        Chart("bars", "categories-S", "S by relation", "", "S, %", tuple(scores)),
        Chart("points", "categories-trade", title, *axes, tuple(points)),
    )
    return Result(tuple(rows), charts, "Each relation's edits are written alone, from the base model.")


def mixture(bench: PaperBench) -> Result:
    """Measure MEMIT on pairs of relations, at growing numbers of edits."""
    found = {pair: pair_rows(bench, *pair) for pair in pairs(bench)}
    charts = tuple(pair_lines(*pair, rows) for pair, rows in found.items())
    note = (
        "n edits, half of each relation, beside the mean of n edits of either relation alone. n is at most"
        f" {bench.sizes.mixture}, and what the smaller relation has."
    )
    if bench.sizes.mixture_draws > 1:
        note += f" Means of {bench.sizes.mixture_draws} random samples; bands reach from the lowest to the highest."
    return Result(tuple(row for rows in found.values() for row in rows), charts, note)


def largest_relations(bench: PaperBench) -> list[str]:
    """Return the data's relations whose cases have neighbours, those of the most records first."""
    counted = Counter(case.request.relation for case in bench.counterfact if case.neighbours)
    return [relation for relation, _ in counted.most_common()]


def of_relation(bench: PaperBench, relation: str, count: int) -> list[Case]:
    return [case for case in bench.counterfact if case.request.relation == relation][:count]


def pairs(bench: PaperBench) -> list[tuple[str, str]]:
    """Return the pairs of relations that are mixed: as many as the sizes say and the data has cases for."""
    largest = combinations(largest_relations(bench), 2)
    candidates = [*KINDS, *(pair for pair in largest if not {pair, pair[::-1]} & KINDS.keys())]
    enough = [pair for pair in candidates if all(len(of_relation(bench, one, LEAST)) == LEAST for one in pair)]
    return enough[: bench.sizes.mixture_pairs]


def pair_rows(bench: PaperBench, one: str, other: str) -> list[Row]:
    """Return rows for the mixture and for each part, at each number of edits."""
    draws = [[drawn(bench, relation, draw) for relation in (one, other)] for draw in range(bench.sizes.mixture_draws)]
    most = min(bench.sizes.mixture, *map(len, draws[0])) // 2 * 2
    steps = bench.sizes.mixture_steps
    rows: list[Row] = []
    for count in sorted({max(2, most * step // steps // 2 * 2) for step in range(1, steps + 1)}):
        half = count // 2
        sets = {
            "mixture": [[*first[:half], *second[:half]] for first, second in draws],
            one: [first[:count] for first, _ in draws],
            other: [second[:count] for _, second in draws],
        }
        rows += [
            {"pair": f"{one}+{other}", "kind": KINDS.get((one, other), ""), "edits": count, "written": name}
            | over_draws([bench.measured("memit", cases, RELATION_METRICS) for cases in samples])
            for name, samples in sets.items()
        ]
    return rows


def drawn(bench: PaperBench, relation: str, draw: int) -> list[Case]:
    """Return a relation's cases: in the data's order for the first draw, in a random one for each further draw."""
    cases = of_relation(bench, relation, len(bench.counterfact))
    return random.Random(f"{bench.data.seed} {relation} {draw}").sample(cases, len(cases)) if draw else cases


def over_draws(found: Sequence[Row]) -> Row:
    """Return each figure's mean over draws, with the lowest and the highest; those of a single draw as they are."""
    if len(found) == 1:
        return found[0]
    row: Row = {}
    for name in found[0]:
        values = [one[name] for one in found]
        if not name.endswith(("_low", "_high")):
            row |= {name: round(fmean(values), 3), f"{name}_low": min(values), f"{name}_high": max(values)}
    return row


def pair_lines(one: str, other: str, rows: list[Row]) -> Chart:
    """Return S of the mixture, of the parts, and of the parts' mean."""
    counts = tuple(dict.fromkeys(row["edits"] for row in rows))
    scores = {(row["written"], row["edits"]): row.get("S") for row in rows}
    lines = {name: tuple(scores[name, count] for count in counts) for name in ("mixture", one, other)}
    means = tuple(
        None if low is None or high is None else fmean((low, high))
        for low, high in zip(lines[one], lines[other], strict=True)
    )
    kind = KINDS.get((one, other))
    title = f"{one} and {other}" + (f": {kind}" if kind else "")
    bands = {name: [row for row in rows if row["written"] == name] for name in lines}
    series = [with_band(name, own, "edits", "S") for name, own in bands.items()]
    series.append(Series("mean of the parts", counts, means, dotted=True))
    return Chart("lines", f"mixture-{one}-{other}", title, "edits", "S, %", tuple(series))
