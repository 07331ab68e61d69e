"""Small makers for the ledger's tests."""

import datetime
from pathlib import Path
from typing import Any

from kbsync.facts import EditRequest, Entity, Fact
from kbsync.ledger import FactRow, Ledger, NewEdit, PullCounts
from kbsync.ledger.edits import finish_batch, start_batch
from kbsync.ledger.pulls import NewPull, record_pull

ROOT = Path(__file__).parents[2]  # where other processes find kbsync and these helpers
STARTED = datetime.datetime(2025, 6, 1, 12, 0, tzinfo=datetime.UTC)


def entity(text: str) -> Entity:
    """``Q1/Label`` has an id, ``Label`` has none."""
    id_, slash, label = text.partition("/")
    return Entity(label, id_) if slash else Entity(text)


def fact(subject: str, object_: str, relation: str = "P36", since: str | None = None, rank: str = "normal") -> Fact:
    return Fact(entity(subject), relation, entity(object_), rank, since)


def pull(ledger: Ledger, *facts: Fact, withdraw: Any = "all", relation: str = "P36", source: str = "s") -> PullCounts:
    return record_pull(ledger, NewPull(source, relation, STARTED, query="SELECT", withdraw=withdraw), facts)


def counts(result: PullCounts) -> tuple[int, int, int, int, int]:
    """new, changed, withdrawn, unchanged, conflicting"""
    return (result.new, result.changed, result.withdrawn, result.unchanged, result.conflicting)


def model(ledger: Ledger, key: str = "model:1", name: str = "practice") -> str:
    return ledger.record_model(
        key=key,
        name=name,
        revision=None,
        architecture="gptj",
        weights_sha256="ab" * 32,
        settings={"lambda": 100.0, "layers": [0, 1]},
        contexts=("", "It is said. "),
        layers=(0, 1),
    ).key


def new_edit(row: FactRow, target: str | None = None) -> NewEdit:
    prompt = f"The {row.relation} of {{}} is"
    request = EditRequest(row.relation, row.subject_label, prompt, row.object_label)
    return NewEdit(
        row.id,
        row.relation,
        row.subject_key,
        row.subject_label,
        row.object_key,
        row.object_label,
        prompt,
        request.id,
        target,
    )


def finish(ledger: Ledger, batch: int, **given: Any) -> None:
    """`finish_batch` with nothing in it but what is given."""
    empty: dict[str, Any] = {"added": (), "superseded": (), "retracted": (), "metrics": (), "files": {}, "seconds": {}}
    now = {row.id: ledger.current_batch(row.model) for row in ledger.batches()}.get(batch)
    planned_on = now.id if now else None
    finish_batch(ledger, batch, **{**empty, "peak_memory_mb": None, "planned_on": planned_on, **given})


def apply(ledger: Ledger, model_key: str, **given: Any) -> int:
    """A whole batch."""
    with ledger.writer("apply"):
        batch = start_batch(ledger, model_key, "memit", {}, "cpu")
        finish(ledger, batch, **given)
    return batch


def dump(ledger: Ledger) -> list[str]:
    """All that the database holds."""
    return list(ledger.db.iterdump())
