"""How a plan and a status are shown, an apply before and after, and a retraction, which applies.

A status as a page: Markdown for a pull request, or one HTML file that needs no network.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup, escape
from rich.console import RenderableType

from kbsync.report.console import Parts, fields_of, page, plain, table

if TYPE_CHECKING:
    from kbsync.sync.bisect import Found
    from kbsync.sync.guards import Cost
    from kbsync.sync.plan import Plan, PlanRow, Sign
    from kbsync.sync.status import Overview


MEANING = {
    "+": "new in the knowledge base, to be edited",
    "~": "changed since it was applied, to be edited again",
    "-": "to be taken out: withdrawn, retracted, or known to the base model now",
    "=": "applied, unchanged",
    "k": "the base model knows it already",
    "!": "kept out: in conflict, or retracted by you",
    "?": "the relation has no template",
    "x": "applied, but not recalled (apply --retry)",
}
_LEFT_OUT: Mapping["Sign", str] = {
    "?": "without a template (`kbsync templates new`)",
    "!": "kept out (in conflict, see --on-conflict, or retracted by you)",
    "x": "not recalled (`kbsync apply --retry`)",
}
"""signs of facts that an apply leaves as they are, though the model does not hold them"""
_QUIET = "=k"  # signs whose rows are only counted
_MOST_ROWS = 40


def plan_view(plan: "Plan | Overview") -> Parts:
    """Yield the counts by sign, and the rows that something is to be done about."""
    counts = [(sign, count, MEANING[sign]) for sign, count in plan.counts.items() if count]
    yield table(("", "facts", "meaning"), counts, title=plan.model or "no model edited yet")
    cells = [
        (row.sign, row.relation, row.subject, row.previous, row.object, row.reason)
        for row in plan.rows
        if row.sign not in _QUIET
    ]
    if cells:
        yield table(("", "relation", "subject", "previous", "object", "why"), cells[:_MOST_ROWS])
    told = sum(count for sign, count in plan.counts.items() if sign not in _QUIET)
    if told > _MOST_ROWS:
        yield f"and {told - _MOST_ROWS} more (--json lists all)"
    if not any(plan.counts.values()):
        yield "no facts: run `kbsync pull` first"
    elif plan.in_sync:
        yield in_sync_text(plan.counts)


def in_sync_text(counts: Mapping["Sign", int]) -> str:
    """Return what to say where an apply has nothing to do: in sync, or which facts it leaves as they are, and why."""
    left = [f"{counts[sign]} {what}" for sign, what in _LEFT_OUT.items() if counts.get(sign)]
    return f"nothing to apply; what is left: {', '.join(left)}" if left else "in sync"


def plan_json(plan: "Plan | Overview") -> dict[str, Any]:
    """Return the plan for machines; its facts come one by one, and once."""
    names = ("sign", "subject", "relation", "object", "previous", "reason", "sources")
    facts = (fields_of(row, *names) for row in plan.rows)
    return {"model": plan.model or None, "counts": plan.counts, "facts": facts, "metrics": {}}


def status_view(status: Mapping[str, Any]) -> Parts:
    yield from plan_view(status["plan"])
    if (batch := status["batch"]) is not None:
        yield metrics_table(status["metrics"], f"batch {batch.id}, {batch.finished}")
    yield from status["notes"]


def status_json(status: Mapping[str, Any]) -> dict[str, Any]:
    return {**plan_json(status["plan"]), "metrics": status["metrics"], "notes": status["notes"]}


def metrics_table(metrics: Mapping[str, Mapping[str, float | None]], title: str) -> RenderableType:
    rows = [(name, figure(values["before"]), figure(values["after"])) for name, values in metrics.items()]
    return table(("figure", "before", "after"), rows, title=title)


def figure(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.01 else f"{value:.0e}"


_MOST_FAILED = 10


def applied_view(applied: Mapping[str, Any]) -> Parts:
    """Yield the figures, the seconds by phase, and the edits that the model does not recall."""
    metrics, failed = applied["metrics"], applied["failed"]
    if applied["batch"] is None:
        told = in_sync_text(applied["left"]) if applied["left"] else "in sync: nothing to do"
        yield f"{told}, {applied['edits']} edits are active"
        return
    yield metrics_table(metrics, "batch {batch}: {edits} edits active".format(**applied))
    yield "{optimised} targets optimised, {from_cache} from the cache".format(**applied)
    yield "seconds: " + ", ".join(f"{name} {value:.1f}" for name, value in applied["seconds"].items())
    if applied["peak_memory_mb"] is not None:
        yield f"peak memory: {applied['peak_memory_mb']:.0f} MB"
    if "recall_masters" in metrics:
        exact, cast = (metrics[name]["after"] for name in ("recall_masters", "recall_active"))
        yield f"recall of all edits: {exact:.2f} with float32 weights, {cast:.2f} cast to 16 bits"
    if failed:
        rows = [
            (
                *(one["relation"], one["subject"], one["object"], _percent(one["probability"])),
                *(one["rival"], _percent(one["rival_probability"])),
            )
            for one in failed[:_MOST_FAILED]
        ]
        title = f"not recalled: {len(failed)} (`kbsync apply --retry` gives them more steps)"
        yield table(("relation", "subject", "object", "%", "best rival", "%"), rows, title=title)


def cost_view(cost: "Cost") -> Parts:
    """Yield what an apply will do, what it tries again and with which settings, and how long that may take."""
    yield f"to do: {cost.optimise} targets to optimise, {cost.from_cache} from the cache; {cost.edits} edits"
    for one in cost.again:
        yield "again: {edits} edits, with {steps} steps and a clamp of {clamp_norm_factor:g}".format(**one)
    if cost.seconds is None:
        yield "time: unknown, as there is no earlier batch on this device"
    else:
        each = ", ".join(f"{name} {value:.1f}" for name, value in cost.seconds.items() if name != "total")
        yield f"time: about {cost.seconds['total']:.0f} s at the pace of earlier batches ({each})"


def found_table(found: "Sequence[Found]") -> RenderableType:
    rows = [(one.relation, one.subject, one.object, one.breaks) for one in found]
    return table(("relation", "subject", "object", "breaks"), rows, title="found")


def bisected_view(done: Mapping[str, Any]) -> Parts:
    """Yield what a bisect found, and the apply without it."""
    if done["found"]:
        yield found_table(done["found"])
    yield f"{done['solves']} solves" if done["found"] else "nothing breaks a canary or a bound"
    yield from ["nothing was written"] if done["applied"] is None else applied_view(done["applied"])


def _percent(probability: float | None) -> str | None:
    return None if probability is None else f"{100 * probability:.2g}"


def retraction_view(planned: Mapping[str, Any]) -> Parts:
    """Yield the fact, and which models it is written into."""
    yield f"{planned['relation']} of {planned['subject']}: {' | '.join(planned['objects'])}"
    if planned["written"]:
        yield f"written into {planned['model']} as {' | '.join(planned['written'])}: to be taken out now"
    else:
        yield f"not written into {planned['model'] or 'any model'}: nothing to take out"
    yield from _others(planned)


def retracted_view(result: Mapping[str, Any]) -> Parts:
    """Yield what was retracted, and the apply that took it out."""
    done, taken = result["retraction"], ""
    if result["applied"] is not None:
        yield from applied_view(result["applied"])
        taken = f" and taken out of {done['model']}"
    fact = f"{done['relation']} of {done['subject']} ({' | '.join(done['objects'])})"
    yield f"{fact} is retracted{taken}: no apply writes it until `kbsync retract --undo`"
    yield from _others(done)


def _others(done: Mapping[str, Any]) -> Parts:
    for name in done["others"]:
        yield f"also written into {name}: `kbsync apply --model {name}` takes it out"


def lifted_view(result: Mapping[str, Any]) -> Parts:
    for veto in result["lifted"]:
        named = f" ({veto['object']})" if veto["object"] else ""
        yield f"{veto['relation']} of {veto['subject']}{named}: the next apply writes it again"


MOST_ROWS = 200  # of a sign; what a reader of a page goes through
LAST = 10  # batches that a plot goes back
_TICKS = re.compile(r"`([^`]+)`")
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&])")


def status_page(
    status: Mapping[str, Any],
    history: Mapping[str, Any] | None,
    recent: Mapping[str, Any],
    form: Literal["markdown", "html"],
) -> str:
    """Return a status, with what was new lately and the figures of the last batches from `history`, as one page."""
    plan: Overview = status["plan"]
    rows: dict[str, list[PlanRow]] = defaultdict(list)
    for row in plan.rows:
        if len(rows[row.sign]) < MOST_ROWS:
            rows[row.sign].append(row)
    return page(
        "status.html.j2" if form == "html" else "status.md.j2",
        {"cell": cell, "bars": bars, "code": code},
        model=plan.model,
        verdict=verdict(plan),
        counts=[(sign, count, MEANING[sign]) for sign, count in plan.counts.items() if count],
        notes=status["notes"],
        batch=status["batch"].id if status["batch"] else None,
        figures=[
            (name, figure(values["before"]) or "", figure(values["after"]) or "", points(name, history))
            for name, values in status["metrics"].items()
        ],
        rows=rows,
        **recent,
    )


def verdict(plan: "Overview") -> str:
    """Return in a sentence whether there is anything to do."""
    counts = plan.counts
    if not any(counts.values()):
        return "No facts yet: run `kbsync pull`."
    if plan.in_sync:
        return in_sync_text(counts).capitalize() + "."
    changes = counts["+"] + counts["~"] + counts["-"]
    facts = "1 fact" if changes == 1 else f"{changes:,} facts"
    return f"Knowledge base and model differ in {facts}: `kbsync apply` writes the change."


def cell(value: object) -> str:
    """Return a value for a cell of a Markdown table: labels come from afar, so none of it is markup."""
    return _MARKUP.sub(r"\\\1", " ".join(plain(value).plain.split()))


def code(text: str) -> Markup:
    """Return a sentence for HTML, what stands between backticks as code."""
    return Markup(_TICKS.sub(r"<code>\1</code>", str(escape(text))))


def bars(points: Sequence[tuple[float, float]]) -> str:
    """Return the same as a line of text."""
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (18 - y) / 16)] for _, y in points)


def points(name: str, history: Mapping[str, Any] | None) -> Sequence[tuple[float, float]]:
    """Return a figure's way over the last batches, scaled to 100 x 20; nothing where there are fewer than two."""
    batches = history["batches"] if history else ()
    values = [batch["metrics"].get(name) for batch in batches if batch["active"] is not None]
    told = [value for value in values if value is not None][-LAST:]
    if len(told) < 2:
        return []
    low, high = min(told), max(told)
    step = 96 / (len(told) - 1)
    return [
        (round(2 + step * at, 1), round(18 - 16 * (value - low) / ((high - low) or 1), 1))
        for at, value in enumerate(told)
    ]
