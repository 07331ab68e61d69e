"""Figures 3 and 8: where a model recalls its facts, by causal tracing."""

from collections.abc import Mapping, Sequence
from typing import Any

from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.benchmarks.paper.experiment import Bars, Drawing, Experiment, Heat, Result, Row
from kbsync.memit.search import critical_layers
from kbsync.metrics.trace import causal_trace
from kbsync.metrics.trace_figures import TraceFigures, trace_figures
from kbsync.workflows.known_facts import facts_to_ask, known_requests

__all__ = ["TRACE"]

KINDS = {"state": "hidden state", "mlp": "MLP outputs", "attention": "attention outputs"}
WHOLE, GAP = "state restored", "gap of the MLPs"


def run(bench: PaperBench) -> Result:
    """Trace facts that the model knows, each kind of output put back at each token and block."""
    asked, _ = facts_to_ask(bench.ledger.home, bench.ledger, None)
    known, _ = known_requests(bench.loaded, asked, bench.sizes.traced, bench.progress)
    facts = known[: bench.sizes.traced]
    about = {**bench.about, "what": "trace", "facts": [fact.id for fact in facts], "seed": bench.data.seed}

    def make() -> dict[str, Any]:
        found = trace_figures(causal_trace(bench.loaded, facts, seed=bench.data.seed, progress=bench.progress))
        return {
            "rows": list(rows_of(found)),
            "window": found.window,
            "suggested": None if found.mediated is None else list(critical_layers(found.mediated)),
        }

    kept = bench.units.get(about, make)
    suggested = kept["suggested"]
    said = "none: severing the MLPs loses nothing beyond chance" if suggested is None else f"layers {suggested}"
    return Result(
        tuple(kept["rows"]),
        tuple(drawings(kept["rows"], kept["window"])),
        f"{len(facts)} facts that the model knows. Suggested for R: {said}.",
    )


def rows_of(found: TraceFigures) -> list[Row]:
    """Return a row for each kind, token group and block, and for each severed variant; percent of probability."""
    rows: list[Row] = []
    for kind, groups in found.effects.items():
        for group, effects in groups.items():
            for block, one in enumerate(effects):
                if one is not None:
                    rows.append(row(kind, group, block, one))
    for name, effects in {**{f"{one} severed": each for one, each in found.severed.items()}, GAP: found.gap}.items():
        rows += [row(name, "last subject token", block, one) for block, one in enumerate(effects)]
    return rows


def row(kind: str, group: str, block: int, figure: Any) -> Row:
    """Return one row with its interval."""
    values = {"effect": figure.mean, "effect_low": figure.low, "effect_high": figure.high}
    return {
        "restored": kind,
        "token": group,
        "block": block,
        **{name: round(value, 3) for name, value in values.items()},
    }


def drawings(rows: Sequence[Mapping[str, Any]], window: int) -> list[Drawing]:
    """Return a heat map for each kind, and bars of the severed variants."""
    blocks = sorted({one["block"] for one in rows})
    found: list[Drawing] = []
    for kind, title in KINDS.items():
        mine = {(one["token"], one["block"]): one["effect"] for one in rows if one["restored"] == kind}
        tokens = list(dict.fromkeys(token for token, _ in mine))
        values = tuple(tuple(mine.get((token, block), 0.0) for block in blocks) for token in tokens)
        wide = "" if kind == "state" or window == 1 else f", {window} blocks together"
        names = tuple(map(str, blocks))
        found.append(
            Heat(
                f"trace-{kind}",
                f"Effect of the {title}{wide}",
                "block",
                "token",
                names,
                tuple(tokens),
                values,
                "points",
            )
        )
    series = {
        name: tuple(one["effect"] for one in rows if one["restored"] == kind and one["token"] == "last subject token")
        for name, kind in (
            (WHOLE, "state"),
            ("with MLP severed", "mlp severed"),
            ("with attention severed", "attention severed"),
        )
    }
    found.append(
        Bars(
            "trace-severed",
            "State at the last subject token, with outputs severed",
            "points",
            tuple(map(str, blocks)),
            series,
            "block",
        )
    )
    return found


TRACE = Experiment("trace", "Causal tracing", "Figures 3 and 8", run)
