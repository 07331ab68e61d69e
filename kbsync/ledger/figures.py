"""Figures of a batch that were taken after its apply."""

from collections.abc import Sequence

from kbsync.ledger.rows import Metric
from kbsync.ledger.store import Ledger

__all__ = ["record_figures"]


def record_figures(ledger: Ledger, batch: int, metrics: Sequence[Metric]) -> None:
    """Add figures over the whole of a batch; those of the same name that it has stay on record before them."""
    rows = [(batch, metric.name, metric.before, metric.after) for metric in metrics]
    with ledger.writing() as db:
        db.conn.executemany('INSERT INTO metrics (batch, name, "before", "after") VALUES (?, ?, ?, ?)', rows)
