"""Figures 3 and 8: where a model recalls its facts, by causal tracing."""

from collections.abc import Sequence
from typing import Any

from kbsync.benchmarks.paper.bench import Experiment, PaperBench, Result
from kbsync.facts import EditRequest
from kbsync.memit.extensions.calibration import critical_layers
from kbsync.metrics.trace import KINDS, SEVERED, TraceFigures, causal_trace, trace_figures
from kbsync.metrics.trace_batch import LAST_SUBJECT, STATE
from kbsync.report.explain import trace_charts
from kbsync.report.plots import Chart, Row
from kbsync.sync.practice import known_requests

GAP = "gap of the MLPs"


def run(bench: PaperBench) -> Result:
    """Trace facts that the model knows, each kind of output put back at each token and block."""
    known, _ = known_requests(bench.loaded, bench.facts(), bench.sizes.traced, bench.progress)
    facts = known[: bench.sizes.traced]
    about = {**bench.about, "what": "trace", "facts": [fact.id for fact in facts], "seed": bench.data.seed}
    kept = bench.measurements.get({**about, "noises": bench.sizes.noises}, lambda: traced(bench, facts))
    suggested = kept["suggested"]
    advice = "none: severing the MLPs has no effect beyond chance" if suggested is None else f"layers {suggested}"
    note = f"{len(facts)} facts that the model knows, {bench.sizes.noises} draws of noise each."
    drawn = tuple(charts(kept["rows"], kept["window"]))
    return Result(tuple(kept["rows"]), drawn, f"{note} Suggested for R: {advice}.")


def traced(bench: PaperBench, facts: Sequence[EditRequest]) -> dict[str, Any]:
    """Return the rows of a trace, its window, and the layers that it suggests."""
    noises, seed = bench.sizes.noises, bench.data.seed
    found = trace_figures(causal_trace(bench.loaded, facts, samples=noises, seed=seed, progress=bench.progress))
    layers = None if found.mediated is None else list(critical_layers(found.mediated))
    return {"rows": rows_of(found), "window": found.window, "suggested": layers}


def rows_of(found: TraceFigures) -> list[Row]:
    """Return a row for each kind, token group and block, and for each severed variant; percent of probability."""
    parts = [(kind, group, column) for kind, groups in found.effects.items() for group, column in groups.items()]
    parts += [(f"{kind} severed", LAST_SUBJECT, column) for kind, column in found.severed.items()]
    parts.append((GAP, LAST_SUBJECT, found.gap))
    return [
        {
            "restored": kind,
            "token": group,
            "block": block,
            "effect": round(one.mean, 3),
            "effect_low": round(one.low, 3),
            "effect_high": round(one.high, 3),
        }
        for kind, group, column in parts
        for block, one in enumerate(column)
        if one is not None
    ]


def charts(rows: Sequence[Row], window: int) -> list[Chart]:
    """Return the charts of the rows."""
    columns: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        columns.setdefault(row["restored"], {}).setdefault(row["token"], []).append(row["effect"])
    found = {kind: {token: tuple(column) for token, column in groups.items()} for kind, groups in columns.items()}
    severed = {kind: found[f"{kind} severed"][LAST_SUBJECT] for kind in SEVERED}
    severed["effect"] = found[STATE][LAST_SUBJECT]
    return trace_charts({kind: found[kind] for kind in KINDS}, severed, window)


TRACE = Experiment("trace", "Causal tracing", "Figures 3 and 8", run)
