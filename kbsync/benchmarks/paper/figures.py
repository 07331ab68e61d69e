"""Figures 9 and 11 to 13: FT-W's weight decay, other layers, attention in place of the MLP, and lambda.

Figures 3 and 8: where a model recalls its facts, by causal tracing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kbsync.benchmarks.paper.bench import PaperBench, Result
from kbsync.benchmarks.paper.data import evenly
from kbsync.benchmarks.paper.tables import numbers_of_edits
from kbsync.editors.ft import FineTuningSettings
from kbsync.facts import EditRequest, content_id
from kbsync.memit import MemitSettings, edited
from kbsync.memit.extensions.calibration import critical_layers, lambda_of
from kbsync.metrics import Case
from kbsync.metrics.trace import KINDS, SEVERED, causal_trace, mediated, trace_figures
from kbsync.metrics.trace_batch import LAST_SUBJECT, STATE
from kbsync.models import LoadedModel
from kbsync.report.explain import trace_charts
from kbsync.report.plots import Chart, Row, bars_by_row, with_band
from kbsync.sync.covariances import covariances_for
from kbsync.sync.practice import known_requests

GAP = "gap of the MLPs"


def trace(bench: PaperBench) -> Result:
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
    gaps = mediated(found["gap"])
    layers = None if gaps is None else list(critical_layers(gaps))
    return {"rows": rows_of(found), "window": found["window"], "suggested": layers}


def rows_of(found: Mapping[str, Any]) -> list[Row]:
    """Return a row for each kind, token group and block, and for each severed variant; percent of probability."""
    parts = [(kind, group, column) for kind, groups in found["effects"].items() for group, column in groups.items()]
    parts += [(f"{kind} severed", LAST_SUBJECT, column) for kind, column in found["severed"].items()]
    parts.append((GAP, LAST_SUBJECT, found["gap"]))
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
    columns: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        columns.setdefault(row["restored"], {}).setdefault(row["token"], []).append(row["effect"])
    found = {kind: {token: tuple(column) for token, column in groups.items()} for kind, groups in columns.items()}
    severed = {kind: found[f"{kind} severed"][LAST_SUBJECT] for kind in SEVERED}
    severed["effect"] = found[STATE][LAST_SUBJECT]
    return trace_charts({kind: found[kind] for kind in KINDS}, severed, window)


SHOWN = ("S", "ES", "PS", "NS", "recall")
METRICS = (*SHOWN[1:], "GE")
CHOICES = 5
POINTS = 3  # numbers of edits that FT-W is measured at
DECADES = 4


def layers(bench: PaperBench) -> Result:
    """Measure MEMIT with each choice of R; target vectors are found anew for each L."""
    cases = bench.counterfact[: bench.sizes.layers]
    tried = layer_choices(bench.settings.layers, len(bench.loaded.family.block_list(bench.loaded.model)))
    bench.covariances(sorted({layer for choice in tried for layer in choice}))  # one pass over the text for all
    rows: list[Row] = []
    for choice in tried:
        figures = bench.measured("memit", cases, METRICS, replace(bench.settings, layers=choice))
        rows.append({"layers": " ".join(map(str, choice)), "edits": len(cases), **figures})
    bars = bars_by_row("layers", f"MEMIT, {len(cases)} edits, by edited layers", "layers", rows, SHOWN)
    return Result(tuple(rows), (bars,), "The first choice is the model's own; the others keep its other settings.")


def layer_choices(own: Sequence[int], depth: int) -> list[tuple[int, ...]]:
    """Return five choices of R, fewer where the model is too small for them; the model's own is first.

    The others are its last layer alone, as many layers in the middle, as many at the top, twice as many, and, where two
    of these are the same, as many one block up. L is below the last block, as for any edit.
    """
    count, top = len(own), depth - 2
    middle = max(0, min(depth // 2, top - count + 1))
    found = [
        tuple(own),
        (own[-1],),
        tuple(range(middle, middle + count)),
        tuple(range(max(0, top - count + 1), top + 1)),
        tuple(range(own[0], min(top, own[-1] + count) + 1)),
        tuple(range(own[0] + 1, min(top, own[-1] + 1) + 1)),
    ]
    return [choice for choice in dict.fromkeys(found) if choice][:CHOICES]


def attention(bench: PaperBench) -> Result:
    """Measure MEMIT at the MLPs, at the attentions of the same layers with the same target vectors, and at late ones.

    Lambda is the same share of the width of the keys for all.
    """
    cases = bench.counterfact[: bench.sizes.layers]
    rows: list[Row] = [{"edited": "MLP", "edits": len(cases), **bench.measured("memit", cases, METRICS)}]
    at, own = bench.loaded.at_attention(), bench.settings.layers
    widths = [one.family.weight(one.model, own[0]).shape[1] for one in (bench.loaded, at)]
    lambda_ = lambda_of(bench.settings.lambda_ / widths[0], widths[1])
    late = late_layers(own, len(bench.loaded.family.block_list(bench.loaded.model)))
    for name, layers in (("attention", own), *([("late attention", late)] if late else [])):
        searched = replace(bench.settings, layers=layers)
        figures = at_attention(bench, cases, at, searched, replace(searched, lambda_=lambda_))
        rows.append({"edited": name, "edits": len(cases), **figures})
    bars = bars_by_row("attention", f"MEMIT, {len(cases)} edits, by what is edited", "edited", rows, SHOWN)
    note = f"Lambda {bench.settings.lambda_:g} at the MLP, {lambda_:g} at the attention. Late layers: "
    return Result(tuple(rows), (bars,), note + (" ".join(map(str, late)) or "none") + ".")


def late_layers(own: Sequence[int], depth: int) -> tuple[int, ...]:
    """Return as many layers as a model's own, right behind them; fewer where the model ends before."""
    return tuple(range(own[-1] + 1, min(own[-1] + len(own), depth - 2) + 1))


def at_attention(
    bench: PaperBench, cases: Sequence[Case], at: LoadedModel, searched: MemitSettings, settings: MemitSettings
) -> dict[str, Any]:
    """Return figures of MEMIT `at` the attention, with target vectors of the settings `searched`."""

    def make() -> dict[str, Any]:
        groups = bench.groups("memit", [case.request for case in cases])
        choice = replace(bench.choice, loaded=at, settings=settings)
        covariances = covariances_for(bench.ledger.tensors, choice, bench.progress)
        task = bench.task(groups, searched, search=True)
        deltas = bench.editor("memit").edit(
            replace(task, loaded=at, settings=settings, covariances=lambda layers: covariances)
        )
        with edited(at, deltas):
            seen, heard = evenly(cases, bench.sizes.measured), evenly(cases, bench.sizes.generated)
            return {"figures": bench.measure(seen, heard, METRICS, {})}

    ids = content_id("requests1", [case.request.id for case in cases])
    about = {**bench.about, "what": "attention", "settings": settings.as_dict(), "ids": ids, "metrics": list(METRICS)}
    about |= {"measured": bench.sizes.measured, "generated": bench.sizes.generated}
    found: dict[str, Any] = bench.measurements.get(about, make)["figures"]
    return found


def decay(bench: PaperBench) -> Result:
    """Measure FT-W with weight decays around the published law's, at growing numbers of edits."""
    own, rows = bench.values, []
    for count in numbers_of_edits(bench.largest, POINTS)[1:]:
        cases = bench.counterfact[:count]
        law = FineTuningSettings().decay(count)
        for value in lambdas(law, bench.sizes.decays):
            bench.values = {**own, "ft": {**own.get("ft", {}), "weight_decay": value}}
            try:
                figures = bench.measured("ft", cases, METRICS)
            finally:
                bench.values = own
            rows.append({"edits": count, "weight decay": value, "of the law": round(value / law, 4), **figures})
    lines = tuple(
        with_band(f"{count} edits", [row for row in rows if row["edits"] == count], "weight decay", "S")
        for count in dict.fromkeys(row["edits"] for row in rows)
    )
    chart = Chart("lines", "decay", "FT-W by weight decay", "weight decay", "S, %", lines, logarithmic=True)
    note = "The middle value is that of the published law for n edits, n^-0.870 x e^0.156."
    return Result(tuple(rows), (chart,), note)


def lambda_(bench: PaperBench) -> Result:
    """Measure MEMIT with each value of lambda, on the same target vectors."""
    cases = bench.counterfact[: bench.sizes.lambda_edits]
    rows: list[Row] = []
    for value in lambdas(bench.settings.lambda_, bench.sizes.lambdas):
        figures = bench.measured("memit", cases, METRICS, replace(bench.settings, lambda_=value))
        rows.append({"lambda": value, "edits": len(cases), **figures})
    lines = tuple(with_band(metric, rows, "lambda", metric) for metric in SHOWN)
    title = f"MEMIT, {len(cases)} edits, by lambda"
    chart = Chart("lines", "lambda", title, "lambda (weight of C)", "%", lines, logarithmic=True)
    return Result(tuple(rows), (chart,), f"The model's own lambda is {bench.settings.lambda_:g}.")


def lambdas(own: float, count: int) -> list[float]:
    """Return `count` values from own / 100 to 100 own, evenly on a log axis."""
    return [float(f"{own * 10 ** (DECADES * (place / (count - 1) - 0.5)):.4g}") for place in range(count)]
