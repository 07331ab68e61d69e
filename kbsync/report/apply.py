"""How an apply is shown."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from kbsync.report.plan import metrics_table
from kbsync.report.tables import plain, table

if TYPE_CHECKING:
    from kbsync.workflows.apply import Applied

__all__ = ["applied_view"]

_MOST_FAILED = 10


def applied_view(applied: "Applied") -> RenderableType:
    """Return the figures, the seconds by phase, and the edits that the model does not recall."""
    if applied.batch is None:
        return plain(f"in sync: nothing to do, {applied.edits} edits are active")
    title = f"batch {applied.batch}: {applied.edits} edits active"
    found = f"{applied.optimised} targets optimised, {applied.from_cache} from the cache"
    seconds = ", ".join(f"{name} {value:.1f}" for name, value in applied.seconds.items())
    parts: list[RenderableType] = [metrics_table(applied.metrics, title), plain(found), plain(f"seconds: {seconds}")]
    if applied.peak_memory_mb is not None:
        parts.append(plain(f"peak memory: {applied.peak_memory_mb:.0f} MB"))
    if "recall_masters" in applied.metrics:
        exact, cast = (applied.metrics[name]["after"] for name in ("recall_masters", "recall_active"))
        parts.append(plain(f"recall of all edits: {exact:.2f} with float32 weights, {cast:.2f} cast to 16 bits"))
    if applied.failed:
        rows = [(one["relation"], one["subject"], one["object"]) for one in applied.failed[:_MOST_FAILED]]
        parts.append(table(("relation", "subject", "object"), rows, title=f"not recalled: {len(applied.failed)}"))
    return Group(*parts)
