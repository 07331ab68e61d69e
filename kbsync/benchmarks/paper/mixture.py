"""Figures 7 and 10: edits of two relations together, against the mean of each alone at the same number of edits."""

from dataclasses import dataclass
from statistics import fmean

from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.benchmarks.paper.categories import of_relation
from kbsync.benchmarks.paper.experiment import Experiment, Line, Lines, Result, Row

__all__ = ["MIXTURE", "PAIRS", "Pair"]

METRICS = ("ES", "PS", "NS", "recall")
EDITOR = "memit"
LEAST = 4
"""edits that a pair needs of each relation to be measured"""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two relations, and whether their subjects and their objects are of one kind."""

    one: str
    other: str
    kind: str


PAIRS = (
    Pair("P17", "P27", "unlike subjects (places, people), like objects (countries)"),
    Pair("P37", "P30", "like subjects (countries), unlike objects (languages, continents)"),
    Pair("P19", "P20", "like subjects (people), like objects (cities)"),
    Pair("P27", "P159", "unlike subjects (people, companies), unlike objects (countries, cities)"),
)
"""relations that both the fixtures and CounterFact have"""


def run(bench: PaperBench) -> Result:
    """Measure MEMIT on each pair that the data has, at growing numbers of edits."""
    rows: list[Row] = []
    drawings = []
    for pair in PAIRS[: bench.sizes.mixture_pairs]:
        own = pair_rows(bench, pair)
        rows += own
        if own:
            drawings.append(drawing(pair, own))
    note = (
        "n edits, half of each relation, beside the mean of n edits of either relation alone. n is at most"
        f" {bench.sizes.mixture}, and what the smaller relation has."
    )
    return Result(tuple(rows), tuple(drawings), note)


def pair_rows(bench: PaperBench, pair: Pair) -> list[Row]:
    """Return rows for the mixture and for each part, at each number of edits; none where the data has too few."""
    one, other = (of_relation(bench, relation, bench.sizes.mixture) for relation in (pair.one, pair.other))
    most = min(len(one), len(other)) // 2 * 2
    if most < LEAST:
        return []
    steps = bench.sizes.mixture_steps
    counts = sorted({max(2, most * step // steps // 2 * 2) for step in range(1, steps + 1)})
    rows: list[Row] = []
    for count in counts:
        sets = {"mixture": [*one[: count // 2], *other[: count // 2]], pair.one: one[:count], pair.other: other[:count]}
        rows += [
            {"pair": f"{pair.one}+{pair.other}", "kind": pair.kind, "edits": count, "written": name}
            | bench.measured(EDITOR, cases, METRICS)
            for name, cases in sets.items()
        ]
    return rows


def drawing(pair: Pair, rows: list[Row]) -> Lines:
    """Return S of the mixture, of the parts, and of the parts' mean."""
    counts = tuple(dict.fromkeys(row["edits"] for row in rows))

    def at(count: int, written: str) -> float | None:
        (row,) = (row for row in rows if (row["edits"], row["written"]) == (count, written))
        score: float | None = row.get("S")
        return score

    lines = {name: tuple(at(count, name) for count in counts) for name in ("mixture", pair.one, pair.other)}
    means = [[one, other] for one, other in zip(lines[pair.one], lines[pair.other], strict=True)]
    lines["mean of the parts"] = tuple(
        fmean(score for score in both if score is not None) if None not in both else None for both in means
    )
    return Lines(
        f"mixture-{pair.one}-{pair.other}",
        f"{pair.one} and {pair.other}: {pair.kind}",
        "edits",
        "S, %",
        tuple(Line(name, counts, y, dotted=name == "mean of the parts") for name, y in lines.items()),
    )


MIXTURE = Experiment("mixture", "Two relations together", "Figures 7 and 10", run)
