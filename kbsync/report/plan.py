"""How a plan and a status are shown."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.sync.plan import Plan, Sign
    from kbsync.sync.status import Overview, Status

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
_QUIET = "=k"
"""signs whose rows are only counted"""
_MOST_ROWS = 40


def plan_view(plan: "Plan | Overview") -> RenderableType:
    """Return the counts by sign, and the rows that something is to be done about."""
    counts = [(sign, count, MEANING[sign]) for sign, count in plan.counts.items() if count]
    parts: list[RenderableType] = [table(("", "facts", "meaning"), counts, title=plan.model or "no model edited yet")]
    rows = [row for row in plan.rows if row.sign not in _QUIET]
    told = sum(count for sign, count in plan.counts.items() if sign not in _QUIET)
    if rows:
        cells = [
            (row.sign, row.relation, row.subject, row.previous, row.object, row.reason) for row in rows[:_MOST_ROWS]
        ]
        parts.append(table(("", "relation", "subject", "previous", "object", "why"), cells))
    if told > _MOST_ROWS:
        parts.append(plain(f"and {told - _MOST_ROWS} more (--json lists all)"))
    if not any(plan.counts.values()):
        parts.append(plain("no facts: run `kbsync pull` first"))
    elif plan.in_sync:
        parts.append(plain(in_sync_text(plan.counts)))
    return Group(*parts)


def in_sync_text(counts: Mapping["Sign", int]) -> str:
    """Return what to say where an apply has nothing to do: in sync, or which facts it leaves as they are, and why."""
    left = [f"{counts[sign]} {what}" for sign, what in _LEFT_OUT.items() if counts.get(sign)]
    return f"nothing to apply; what is left: {', '.join(left)}" if left else "in sync"


def plan_json(plan: "Plan | Overview") -> dict[str, Any]:
    """Return the plan for machines; its facts come one by one, and once."""
    facts = (
        {
            "sign": row.sign,
            "subject": row.subject,
            "relation": row.relation,
            "object": row.object,
            "previous": row.previous,
            "reason": row.reason,
            "sources": row.sources,
        }
        for row in plan.rows
    )
    return {"model": plan.model or None, "counts": plan.counts, "facts": facts, "metrics": {}}


def status_view(status: "Status[Plan] | Status[Overview]") -> RenderableType:
    """Return the plan and the figures of the last batch."""
    parts: list[RenderableType] = [plan_view(status.plan)]
    if status.batch is not None:
        parts.append(metrics_table(status.metrics, f"batch {status.batch.id}, {status.batch.finished}"))
    parts += [plain(note) for note in status.notes]
    return Group(*parts)


def status_json(status: "Status[Plan] | Status[Overview]") -> dict[str, Any]:
    """Return the status for machines."""
    return {**plan_json(status.plan), "metrics": status.metrics, "notes": status.notes}


def metrics_table(metrics: Mapping[str, Mapping[str, float | None]], title: str) -> RenderableType:
    """Return a table of figures before and after."""
    rows = [(name, figure(values["before"]), figure(values["after"])) for name, values in metrics.items()]
    return table(("figure", "before", "after"), rows, title=title)


def figure(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.01 else f"{value:.0e}"
