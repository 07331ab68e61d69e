"""Rollback: make the state after another batch current. The files are there, so no model is loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kbsync.errors import LedgerError, SettingsError
from kbsync.ledger import BatchRow, Ledger, ModelRow, check_tensors
from kbsync.ledger.edits import active_after, roll_back, rollback_count
from kbsync.sync.history import model_meant


def rollback(
    home: Path, batch: int | None, model: str | None, confirm: Callable[[dict[str, Any]], bool]
) -> dict[str, Any] | None:
    """Make the state after `batch` current (None: the one before the current; 0: the base model); None if refused.

    Returns from and to which batch, and how many edits are active no more, again, and in all; `confirm` is shown it.
    A batch says which model is meant; without one it is `model`, or the model used last. Raises SettingsError for a
    batch or model that is not on record, LedgerError for a state whose files are missing or damaged; nothing has
    changed then.
    """
    with Ledger.open(home, create=False) as ledger, ledger.writer("rollback"):
        named = next((row.model for row in ledger.batches() if row.id == batch), None) if model is None else None
        known = (ledger.find_model(named) if named else None) or model_meant(ledger, model)
        current = ledger.current_batch(known.key)
        if batch is None:
            if current is None:
                raise SettingsError(f"{known.name} is at the base model already: there is nothing to roll back")
            batch = current.parent or 0
        reached = _reached(ledger, known, batch, current)
        for name, sha256 in (reached.files if reached else {}).items():
            try:
                check_tensors(ledger.tensors / name, sha256)
            except LedgerError as error:
                cause = str(error).partition(": ")[0]
                raise LedgerError(
                    f"cannot go to batch {batch}: {cause}; restore a copy of the file, or go to another batch. Nothing"
                    " was changed"
                ) from error
        before = {edit.id for edit in ledger.active_edits(known.key)}
        after = {edit.id for edit in active_after(ledger, known.key, batch or None)}
        way = {"model": known.name, "from_batch": current.id if current else 0, "to_batch": batch}
        counts = {"ended": len(before - after), "restored": len(after - before), "active": len(after)}
        result = way | counts
        if not confirm(result):
            return None
        roll_back(ledger, known.key, batch or None)
        return result


def rollbacks_so_far(home: Path) -> int:
    """Return how many rollbacks a home has had, for an apply that is beginning. Raises LedgerError as `rollback`."""
    with Ledger.open(home, create=False) as ledger:
        return rollback_count(ledger)


def _reached(ledger: Ledger, model: ModelRow, batch: int, current: BatchRow | None) -> BatchRow | None:
    """Return the batch to go to, None for the base model; SettingsError where it left no state, or is current."""
    if batch == (current.id if current else 0):
        where = f"batch {batch}" if batch else "the base model"
        raise SettingsError(f"{model.name} is at {where} already")
    if batch == 0:
        return None
    found = next((row for row in ledger.batches(model.key) if row.id == batch), None)
    if found is None:
        raise SettingsError(f"{model.name} has no batch {batch}: `kbsync history` lists its batches")
    if found.state not in ("done", "rolled back"):
        raise SettingsError(
            f"batch {batch} is {found.state} and left no state to go to: `kbsync history` lists the batches that did"
        )
    return found
