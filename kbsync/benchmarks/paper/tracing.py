"""Figures 3 and 8: where a model recalls its facts, by causal tracing."""

from collections.abc import Sequence
from typing import Any

from kbsync.benchmarks.paper.bench import Experiment, PaperBench, Result
from kbsync.facts import EditRequest
from kbsync.memit.extensions.calibration import critical_layers
from kbsync.metrics.trace import TraceFigures, causal_trace, trace_figures
from kbsync.metrics.trace_batch import LAST_SUBJECT
from kbsync.report.plots import Chart, Row, Series
from kbsync.sync.practice import known_requests

__all__ = ["TRACE"]

KINDS = {"state": "hidden state", "mlp": "MLP outputs", "attention": "attention outputs"}
SEVERED = {"state restored": "state", "with MLP severed": "mlp severed", "with attention severed": "attention severed"}
GAP = "gap of the MLPs"


def run(bench: PaperBench) -> Result:
    """Trace facts that the model knows, each kind of output put back at each token and block."""
    known, _ = known_requests(bench.loaded, bench.facts(), bench.sizes.traced, bench.progress)
    facts = known[: bench.sizes.traced]
    about = {**bench.about, "what": "trace", "facts": [fact.id for fact in facts], "seed": bench.data.seed}
    kept = bench.measurements.get({**about, "noises": bench.sizes.noises}, lambda: traced(bench, facts))
    suggested = kept["suggested"]
    advice = "none: severing the MLPs loses nothing beyond chance" if suggested is None else f"layers {suggested}"
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
    """Return a map for each kind, and bars of the severed variants."""
    effects = {(row["restored"], row["token"], row["block"]): row["effect"] for row in rows}
    blocks = tuple(sorted({row["block"] for row in rows}))

    def series(name: str, kind: str, token: str) -> Series:
        return Series(name, blocks, tuple(effects.get((kind, token, block)) for block in blocks))

    found = []
    for kind, title in KINDS.items():
        tokens = dict.fromkeys(row["token"] for row in rows if row["restored"] == kind)
        wide = "" if kind == "state" or window == 1 else f", {window} blocks together"
        of_tokens = tuple(series(token, kind, token) for token in tokens)
        about = f"Effect of the {title}{wide}", "block", "token"
        found.append(Chart("map", f"trace-{kind}", *about, of_tokens, unit="points"))
    severed = tuple(series(name, kind, LAST_SUBJECT) for name, kind in SEVERED.items())
    title = f"State at the {LAST_SUBJECT}, with outputs severed"
    return [*found, Chart("bars", "trace-severed", title, "block", "points", severed)]


TRACE = Experiment("trace", "Causal tracing", "Figures 3 and 8", run)
