"""Audit: what an exported file holds, from the file alone and, where the ledger is at hand, against it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kbsync.errors import KbsyncError
from kbsync.ledger import EditRow, Ledger
from kbsync.ledger.edits import active_after
from kbsync.sync.export_bill import Bill, about, ledger_hash
from kbsync.sync.export_files import bill_in, changes_in, deviations, weights_in
from kbsync.sync.history import parse_fact
from kbsync.sync.home import AS_STORED, Loading
from kbsync.sync.model import choose_model, current_deltas, known_model

SAME = 1e-3
"""by how much a layer's deviation may differ from the bill's: sums are rounded otherwise on another machine"""


@dataclass(frozen=True, slots=True)
class Held:
    """Whether a file holds a fact about a subject's relation; `object` where the ledger knows it."""

    fact: str
    held: bool
    object: str | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """What a file says of itself, and whether that is so."""

    bill: Bill
    changed: tuple[str, ...]
    """tensors that are not as they were written, are missing, or came later"""
    facts: tuple[Held, ...]
    ledger: str | None
    """what the ledger says of it; None where there is none at hand"""
    agrees: bool | None
    """whether the ledger, and the base model where it was loaded, say the same; None where neither was asked"""

    @property
    def whole(self) -> bool:
        """Whether nothing speaks against the file."""
        return not self.changed and self.agrees is not False


def audit(
    place: Path, facts: Sequence[str] = (), *, home: Path, weights: bool = False, loading: Loading = AS_STORED
) -> Audit:
    """Audit an exported file, or all files of an exported folder; `facts` are subject and relation, ``Albania P6``.

    Where `home` has a ledger, the bill is held against it and, with `weights`, the edited layers too, for which the
    base model is loaded. Raises KbsyncError for what carries no bill, SettingsError for a text that is no fact.
    """
    asked = {text: parse_fact(text) for text in facts}
    files = weights_in(place)
    if not files:
        raise KbsyncError(f"{place}: there is no safetensors or GGUF file; name an exported file or folder")
    bills, changed = [], []
    for file in files:
        bill, hashes = bill_in(file)
        if bill is None:
            raise KbsyncError(
                f"{file} carries no bill of materials: kbsync did not write it, or another program has since"
            )
        names = sorted(bill.tensors.keys() | hashes.keys())
        changed += [name for name in names if bill.tensors.get(name) != hashes.get(name)]
        bills.append(replace(bill, tensors={}))
    if any(bill != bills[0] for bill in bills):
        raise KbsyncError(f"{place} holds files of several exports: name one of them")
    told, agrees = None, None
    edits: list[EditRow] = []
    if weights or (home / "ledger.db").exists():
        with Ledger.open(home, create=False) as ledger:
            told, agrees, edits = against(ledger, bills[0], files, weights, loading)
    objects = {about(edit.relation, name): edit.object for edit in edits for name in (edit.subject, edit.subject_key)}
    marks = {mark for each in bills[0].facts.values() for mark in each}
    held = [
        Held(text, mark in marks, objects.get(mark))
        for text, (subject, relation) in asked.items()
        for mark in (about(relation, subject),)
    ]
    return Audit(bills[0], tuple(changed), tuple(held), told, agrees)


def against(
    ledger: Ledger, bill: Bill, files: Sequence[Path], weights: bool, loading: Loading
) -> tuple[str, bool, list[EditRow]]:
    """Return what a ledger says of a bill, whether it agrees, and the edits that it has of it."""
    models = [row for row in ledger.models() if row.weights_sha256 == bill.base_sha256]
    found = [(row, batch) for row in models for batch in ledger.batches(row.key) if batch.id == bill.batch]
    if not found:
        return f"the ledger has no batch {bill.batch} of this base model", False, []
    model, batch = found[0]
    edits = active_after(ledger, model.key, batch.id)
    if ledger_hash(model, batch, edits) != bill.ledger_sha256:
        return f"batch {batch.id} is another one in the ledger", False, []
    if not weights:
        return f"batch {batch.id} is on record just so", True, edits
    choice = choose_model(model.name, home=ledger.home, loading=loading)
    if (known := known_model(ledger, choice)) is None or known.key != model.key:
        return f"{model.name} is not the base model now", False, edits
    deltas = current_deltas(ledger, batch)
    seen = deviations(deltas, changes_in(files, choice.loaded, deltas))
    wrong = [layer for layer, value in seen.items() if abs(value - bill.deviation.get(layer, 0.0)) > SAME]
    if wrong:
        return f"the weights of layers {', '.join(wrong)} are not what batch {batch.id} gives", False, edits
    return f"the weights are what batch {batch.id} gives", True, edits
