"""History: the batches of every model, what each did to the edits, and how it came out. Loads no model."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kbsync.ledger import BatchRow, Ledger, MetricRow
from kbsync.ledger.edits import edits_of, endings, rollbacks
from kbsync.sync.named import model_meant

__all__ = ["FIGURES", "History", "HistoryBatch", "Rollback", "history"]

FIGURES = ("S", "recall_active", "perplexity")
"""figures of a whole batch that the table shows; the ledger has them all"""


@dataclass(frozen=True, slots=True)
class HistoryBatch:
    """One batch. `active` counts the edits active after it, None where it left no state; figures are those after it."""

    batch: int
    model: str
    started: str
    finished: str | None
    state: str
    current: bool
    added: int
    superseded: int
    retracted: int
    active: int | None
    metrics: dict[str, float | None]
    seconds: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Rollback:
    """A change of the current batch that was no apply; 0 is the base model."""

    time: str
    model: str
    from_batch: int
    to_batch: int


@dataclass(frozen=True, slots=True)
class History:
    """Batches and rollbacks, each oldest first."""

    batches: tuple[HistoryBatch, ...]
    rollbacks: tuple[Rollback, ...]


def history(home: Path, model: str | None = None) -> History:
    """Return the batches and rollbacks of a model, or of all (None).

    Raises LedgerError where there is no ledger, SettingsError for a model that is not on record.
    """
    with Ledger.open(home, create=False) as ledger:
        models = {model_meant(ledger, model).key} if model is not None else {row.key for row in ledger.models()}
        names = {row.key: row.name for row in ledger.models()}
        lines = [line for key in models for line in _batches(ledger, key, names[key])]
        moves = [
            Rollback(row.time, names[row.model], row.from_batch or 0, row.to_batch or 0)
            for row in rollbacks(ledger)
            if row.model in models
        ]
    return History(tuple(sorted(lines, key=lambda line: line.batch)), tuple(moves))


def _batches(ledger: Ledger, model: str, name: str) -> list[HistoryBatch]:
    current = ledger.current_batch(model)
    added = Counter(edit.batch for edit in edits_of(ledger, model))
    ended = Counter((ending.batch, ending.state) for ending in endings(ledger, model))
    active: dict[int | None, int] = {None: 0}
    lines = []
    for batch in ledger.batches(model):
        superseded, retracted = ended[batch.id, "superseded"], ended[batch.id, "retracted"]
        if batch.state in ("done", "rolled back"):
            active[batch.id] = active[batch.parent] + added[batch.id] - superseded - retracted
        lines.append(
            HistoryBatch(
                batch=batch.id,
                model=name,
                started=batch.started,
                finished=batch.finished,
                state=batch.state,
                current=current is not None and batch.id == current.id,
                added=added[batch.id],
                superseded=superseded,
                retracted=retracted,
                active=active.get(batch.id),
                metrics=_figures(ledger.metrics(batch.id)),
                seconds=_total(batch),
                reason=batch.reason,
            )
        )
    return lines


def _figures(rows: Sequence[MetricRow]) -> dict[str, float | None]:
    found = {row.name: row.after for row in rows if row.edit is None}
    return {name: found.get(name) for name in FIGURES}


def _total(batch: BatchRow) -> float | None:
    return batch.seconds.get("total")
