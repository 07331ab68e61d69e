"""The ledger: what was read from each source, what was written into each model, and how well it took.

A home (``.kbsync`` by default) holds three things:

    ledger.db   SQLite: facts and their history, conflicts, models, batches, edits, metrics (`migrations`);
                what was at each batch and the way back to it (`past`), vetoes, aliases
    tensors/    safetensors files, named by a hash, never overwritten (`tensors`)
    lock        held by the one process that changes a model's state (`lock`)

`Ledger` is the way in. It takes and gives plain values and the frozen rows of `rows`; nothing here imports torch
before a tensor is read or written.
"""

from kbsync.ledger.rows import (
    BatchRow,
    Change,
    ConflictNote,
    ConflictRow,
    EditRow,
    EndingRow,
    FactRow,
    HistoryRow,
    Metric,
    MetricRow,
    ModelRow,
    NewEdit,
    PullCounts,
    PullRow,
    RollbackRow,
    TargetRow,
    VetoRow,
)
from kbsync.ledger.store import Ledger
from kbsync.ledger.tensors import check_tensors, read_metadata, read_tensors, replace_tensors, write_tensors

__all__ = [
    "BatchRow",
    "Change",
    "ConflictNote",
    "ConflictRow",
    "EditRow",
    "EndingRow",
    "FactRow",
    "HistoryRow",
    "Ledger",
    "Metric",
    "MetricRow",
    "ModelRow",
    "NewEdit",
    "PullCounts",
    "PullRow",
    "RollbackRow",
    "TargetRow",
    "VetoRow",
    "check_tensors",
    "read_metadata",
    "read_tensors",
    "replace_tensors",
    "write_tensors",
]
