"""Status: the plan as the ledger has it, and the last batch's figures. Loads no model unless it is to be probed."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from kbsync.errors import SettingsError
from kbsync.ledger import BatchRow, EditRow, Ledger, ModelRow
from kbsync.ledger.facts import vetoes
from kbsync.ledger.store import INTERRUPTED
from kbsync.sync.overview import LongPlan, Overview, long_plan_for, overview_for
from kbsync.sync.plan import Plan, find_model, plan_for

__all__ = ["Status", "last_batch", "long_status_for", "status_at_a_glance", "status_for", "used_model"]

Diff = TypeVar("Diff", Plan, Overview, LongPlan)


@dataclass(frozen=True, slots=True)
class Status(Generic[Diff]):
    """The diff, whole or at a glance, and the model's last batch with its figures (before, after).

    `notes` say what a command began and has not ended.
    """

    plan: Diff
    batch: BatchRow | None
    metrics: dict[str, dict[str, float | None]]
    notes: tuple[str, ...] = ()


def status_for(home: Path, model: str | None, relations: Collection[str] | None = None) -> Status[Plan]:
    """Return the status of a model; `model` None means the one used last, or none where none is on record."""
    return Status(plan_for(home, model, relations), *last_batch(home, model))


@contextmanager
def long_status_for(
    home: Path, model: str | None, relations: Collection[str] | None = None
) -> Iterator[Status[LongPlan]]:
    """Give the same; the rows come one by one, and can be had inside only."""
    with long_plan_for(home, model, relations) as plan:
        yield Status(plan, *last_batch(home, model))


def status_at_a_glance(home: Path, model: str | None, relations: Collection[str] | None = None) -> Status[Overview]:
    """Return the same with counts and first rows in place of every fact."""
    return Status(overview_for(home, model, relations), *last_batch(home, model))


def last_batch(
    home: Path, model: str | None
) -> tuple[BatchRow | None, dict[str, dict[str, float | None]], tuple[str, ...]]:
    """Return the model's current batch, its figures over the whole batch, and a `Status`'s notes."""
    with Ledger.open(home, create=False) as ledger:
        found = find_model(ledger, model)
        batch = ledger.current_batch(found.key) if found else None
        rows = ledger.metrics(batch.id) if batch else []
        figures = {row.name: {"before": row.before, "after": row.after} for row in rows if row.edit is None}
        return batch, figures, tuple(_notes(ledger, found)) if found else ()


def _notes(ledger: Ledger, model: ModelRow) -> Iterator[str]:
    again = f"`kbsync apply --model {model.name}`"
    newest = next(reversed(ledger.batches(model.key)), None)
    if newest is not None and newest.state == "running":
        yield f"an apply is running since {newest.started} (batch {newest.id})"
    if newest is not None and newest.reason == INTERRUPTED:
        yield f"the last apply (batch {newest.id}) was interrupted and changed nothing: {again} goes on from there"
    left = list(_still_written(ledger, model))
    if left:
        what = f"{left[0].relation} of {left[0].subject}" + (f" and {len(left) - 1} more" if len(left) > 1 else "")
        yield f"retracted and still in the model: {what}; run the `kbsync retract` again, or {again}"


def _still_written(ledger: Ledger, model: ModelRow) -> Iterator[EditRow]:
    """Yield the active edits that are under a veto: a retract, or the apply after it, has not come to its end."""
    held = {(veto.relation, veto.subject_key, veto.object_key) for veto in vetoes(ledger)}
    for edit in ledger.active_edits(model.key):
        about = (edit.relation, edit.subject_key)
        if (*about, None) in held or (*about, edit.object_key) in held:
            yield edit


def used_model(home: Path) -> str:
    """Return the name of the model used last; raise SettingsError where there is none."""
    with Ledger.open(home, create=False) as ledger:
        found = find_model(ledger, None)
    if found is None:
        raise SettingsError("no model has been edited here yet: name one, such as --model practice")
    return found.name
