"""What was new lately: what the newest pulls changed, what the last batch wrote, and what the model answers now."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kbsync.ledger import Change, Ledger, ModelRow
from kbsync.ledger.edits import metrics_of
from kbsync.ledger.pulls import changes
from kbsync.sync.plan import find_model

MOST = 200
"""changes and edits that are told"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the base model says to an edit's prompt, as far as it was asked, and what the edited one says."""

    prompt: str
    before: str | None
    now: str


@dataclass(frozen=True, slots=True)
class Recent:
    """Changes of the knowledge base, and answers of the last batch's edits, the first `MOST` of each."""

    changes: tuple[Change, ...]
    answers: tuple[Answer, ...]
    failed: str | None
    """why the newest batch failed, where it did: the state before it is current"""


def recent(home: Path, model: str | None) -> Recent:
    """Return what was new lately; `model` None means the one used last. Raises LedgerError where there is no ledger."""
    with Ledger.open(home, create=False) as ledger:
        found = find_model(ledger, model)
        newest = {(pull.source, pull.relation): pull.id for pull in ledger.pulls()}
        told = (one for pull in newest.values() for one in changes(ledger, pull, "+~-"))
        last = next(reversed(ledger.batches(found.key)), None) if found else None
        return Recent(
            tuple(islice(told, MOST)),
            tuple(_answers(ledger, found)) if found else (),
            last.reason if last and last.state == "failed" else None,
        )


def _answers(ledger: Ledger, model: ModelRow) -> Iterator[Answer]:
    batch = ledger.current_batch(model.key)
    edits = ledger.edits(batch.id)[:MOST] if batch else []
    right = {row.edit: row.after for row in metrics_of(ledger, [edit.id for edit in edits]) if row.name == "recall"}
    prompts = {edit.id: edit.prompt.format(edit.subject) for edit in edits}
    said = ledger.answers(model.key, list(prompts.values()))
    for edit in edits:
        recalled = right.get(edit.id)
        now = edit.object if recalled else f"not {edit.object}" if recalled == 0 else f"{edit.object} (not measured)"
        yield Answer(prompts[edit.id], said.get(prompts[edit.id]), now)
