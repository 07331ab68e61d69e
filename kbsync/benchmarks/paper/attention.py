"""Figure 12: the attention's output projections edited in place of the MLP's."""

from dataclasses import replace
from typing import Any

from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.benchmarks.paper.experiment import Bars, Experiment, Result, Row
from kbsync.facts import content_id
from kbsync.memit import edited, spread
from kbsync.memit.search import lambda_of
from kbsync.workflows.covariances import covariances_for

__all__ = ["ATTENTION"]

METRICS = ("ES", "PS", "NS", "recall")
SHOWN = ("S", "ES", "PS", "NS", "recall")


def run(bench: PaperBench) -> Result:
    """Measure MEMIT at the MLPs and at the attentions of the same layers, with the same target vectors.

    Lambda is the same share of the width of the keys for both.
    """
    cases = bench.counterfact[: bench.sizes.layers]
    ids = content_id("requests1", [case.request.id for case in cases])
    rows: list[Row] = [{"edited": "MLP", "edits": len(cases), **bench.measured("memit", cases, METRICS)}]
    at = bench.loaded.at_attention()
    (layer, *_) = bench.settings.layers
    widths = [one.family.weight(one.model, layer).shape[1] for one in (bench.loaded, at)]
    settings = replace(bench.settings, lambda_=lambda_of(bench.settings.lambda_ / widths[0], widths[1]))

    def make() -> dict[str, Any]:
        groups = bench.groups("memit", [case.request for case in cases])
        choice = replace(bench.choice, loaded=at, settings=settings)
        covariances = covariances_for(bench.ledger.tensors, choice, bench.progress)
        z = bench.z(groups, bench.settings)
        deltas = spread(at, groups, bench.contexts, z, covariances, settings, bench.progress)
        with edited(at, deltas):
            return {"figures": bench.figures(cases[: bench.sizes.measured], METRICS)}

    about = {**bench.about, "what": "attention", "settings": settings.as_dict(), "ids": ids, "metrics": list(METRICS)}
    about["measured"] = bench.sizes.measured
    rows.append({"edited": "attention", "edits": len(cases), **bench.units.get(about, make)["figures"]})
    bars = Bars(
        "attention",
        f"MEMIT, {len(cases)} edits, by what is edited",
        "%",
        tuple(row["edited"] for row in rows),
        {metric: tuple(row.get(metric) for row in rows) for metric in SHOWN},
    )
    said = f"Lambda {bench.settings.lambda_:g} at the MLP, {settings.lambda_:g} at the attention."
    return Result(tuple(rows), (bars,), said)


ATTENTION = Experiment("attention", "Attention edited in place of the MLP", "Figure 12", run)
