"""The ledger: what was read from each source, what was written into each model, and how well it took.

A home (``.kbsync`` by default) holds three things:

    ledger.db   SQLite: facts and their history, conflicts, models, batches, edits, metrics (`migrations`)
    tensors/    safetensors files, named by a hash, never overwritten (`tensors`)
    lock        held by the one process that changes a model's state (`db`)

`Ledger` (`store`) is the way in, and the frozen `rows` are what it gives. What takes a ledger: `pulls` records what a
source states, `facts` looks it up, `edits` records applies and goes back to earlier ones. Nothing here imports torch
before a tensor is read or written.
"""

from kbsync.ledger.rows import (
    BatchRow,
    Change,
    ConflictNote,
    EditRow,
    FactRow,
    Metric,
    MetricRow,
    ModelRow,
    NewEdit,
    PullCounts,
    SkippedRow,
    TargetRow,
    VetoRow,
)
from kbsync.ledger.store import Ledger
from kbsync.ledger.tensors import (
    check_sealed,
    check_tensors,
    content_of,
    read_metadata,
    read_tensors,
    replace_tensors,
    write_tensors,
)
