"""Status: the plan as the ledger has it, and the last batch's figures. Loads no model unless it is to be probed."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from kbsync.ledger import BatchRow, Ledger
from kbsync.workflows.plan import Plan, find_model, plan_for

__all__ = ["Status", "last_batch", "status_for", "used_model"]


@dataclass(frozen=True, slots=True)
class Status:
    """The diff, and the last batch that was made for the model with its figures (before, after)."""

    plan: Plan
    batch: BatchRow | None
    metrics: dict[str, dict[str, float | None]]


def status_for(home: Path, model: str | None, relations: Collection[str] | None = None) -> Status:
    """Return the status of a model; `model` None means the one used last."""
    plan = plan_for(home, model, relations)
    return Status(plan, *last_batch(home, model))


def last_batch(home: Path, model: str | None) -> tuple[BatchRow | None, dict[str, dict[str, float | None]]]:
    """Return the model's current batch and its figures over the whole batch."""
    with Ledger.open(home, create=False) as ledger:
        found = find_model(ledger, model)
        batch = ledger.current_batch(found.key) if found else None
        rows = ledger.metrics(batch.id) if batch else []
        return batch, {row.name: {"before": row.before, "after": row.after} for row in rows if row.edit is None}


def used_model(home: Path) -> str:
    """Return the name of the model used last; raise SettingsError where there is none."""
    with Ledger.open(home, create=False) as ledger:
        found = find_model(ledger, None)
        assert found is not None  # find_model raises where no model is on record
        return found.name
