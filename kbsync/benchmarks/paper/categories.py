"""Figure 6: edits of one relation at a time."""

from collections import Counter

from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.benchmarks.paper.experiment import Bars, Experiment, Points, Result, Row
from kbsync.metrics import Case

__all__ = ["CATEGORIES", "of_relation"]

METRICS = ("ES", "PS", "NS", "recall")


def of_relation(bench: PaperBench, relation: str, count: int) -> list[Case]:
    """Return the first `count` cases of a relation, in the data's order."""
    return [case for case in bench.counterfact if case.request.relation == relation][:count]


def run(bench: PaperBench) -> Result:
    """Measure each editor on the relations of the most records, each relation written alone."""
    counted = Counter(case.request.relation for case in bench.counterfact if case.neighbours)
    relations = [relation for relation, _ in counted.most_common(bench.sizes.categories)]
    rows: list[Row] = []
    for relation in relations:
        cases = of_relation(bench, relation, bench.sizes.category_edits)
        rows += [
            {"relation": relation, "editor": name, "edits": len(cases), **bench.measured(name, cases, METRICS)}
            for name in bench.editors
        ]
    found = {(row["relation"], row["editor"]): row for row in rows}
    scores = Bars(
        "categories-S",
        "S by relation",
        "S, %",
        tuple(relations),
        {name: tuple(found[relation, name].get("S") for relation in relations) for name in bench.editors},
    )
    trade = Points(
        "categories-trade",
        "Specificity against generalization, a point a relation",
        "PS (generalization), %",
        "NS (specificity), %",
        {
            name: tuple((row["PS"], row["NS"]) for row in rows if row["editor"] == name and {"PS", "NS"} <= row.keys())
            for name in bench.editors
        },
    )
    return Result(tuple(rows), (scores, trade), "Each relation's edits are written alone, from the base model.")


CATEGORIES = Experiment("categories", "By relation", "Figure 6", run)
