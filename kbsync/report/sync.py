"""How a sync is shown."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from kbsync.report.apply import applied_view
from kbsync.report.plan import plan_view
from kbsync.report.pull import pulls_view
from kbsync.report.tables import plain

if TYPE_CHECKING:
    from kbsync.sync.daily import Synced


def synced_view(done: "Synced") -> RenderableType:
    """Return what was pulled, what there was to do, and what was written."""
    parts: list[RenderableType] = [pulls_view({"pulls": done.pulls}), plan_view(done.plan)]
    if done.applied is not None:
        parts += [applied_view(done.applied), plain(f"{done.checked} items of the ledger are as recorded")]
    if done.exported is not None:
        parts.append(plain(f"exported to {done.exported}"))
    if done.probed is not None:
        told = f"of {done.probed.asked} edits the model recalls {done.probed.recalled}, and the exported files hold"
        parts.append(plain(f"{told} {done.probed.held} of these"))
    if done.dry_run:
        parts.append(plain("dry run: nothing was written"))
    return Group(*parts)


def synced_json(done: "Synced") -> dict[str, Any]:
    """Return one document for machines."""
    return {
        "model": done.model,
        "in_sync": done.in_sync,
        "dry_run": done.dry_run,
        "pulls": done.pulls,
        "counts": done.plan.counts,
        "applied": None if done.applied is None else asdict(done.applied),
        "checked": done.checked,
        "exported": done.exported,
        "probed": done.probed,
    }
