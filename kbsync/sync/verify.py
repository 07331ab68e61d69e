"""Verify: what the ledger says is checked against what can be worked out again. Mends nothing.

Without a model: the database itself, the states of batches and edits, the ids of requests, the tensor files. With one:
that it is the base model that was edited, and the current deltas, solved again from the cached target vectors.
"""

import re
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from kbsync.errors import LedgerError
from kbsync.ledger import BatchRow, EditRow, Ledger, check_sealed, check_tensors, content_of
from kbsync.ledger.decoding import SEALED, broken_seals
from kbsync.ledger.edits import edits_of, endings, line_of, states_after, strange_edits
from kbsync.ledger.store import database_faults
from kbsync.sync.home import AS_STORED, Loading, Progress, silent

_CONTENT_NAMED = re.compile(r"(?:.*-)?([0-9a-f]{64})\.safetensors\Z")


def verify(
    home: Path,
    model: str | None = None,
    *,
    corpus: Path | None = None,
    loading: Loading = AS_STORED,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Check a home; with `model`, that model's weights and deltas too. Writes nothing.

    Returns whether it is whole, and of each kind of check its name, over how many things, and what is wrong with which.
    """
    with Ledger.open(home, create=False, check=False) as ledger:
        checks: list[tuple[str, int, list[str]]] = [
            ("database", 1, list(database_faults(ledger))),
            ("rows", len(SEALED), list(broken_seals(ledger.db))),
        ]
        parts = {} if checks[0][2] else _PARTS  # of rows that cannot be trusted nothing more is said
        for done, (name, part) in enumerate(parts.items()):
            progress("checking", done, len(parts))
            try:
                checks.append((name, *part(ledger)))
            except LedgerError as error:  # a value that cannot be read
                checks.append((name, 0, [str(error)]))
        progress("checking", len(parts), len(parts))
        if model is not None and parts:
            from kbsync.sync.deltas import model_checks  # torch

            checks += model_checks(ledger, model, corpus, loading, progress)
    return {
        "whole": not any(faults for *_, faults in checks),
        "checks": [{"name": name, "checked": count, "faults": faults} for name, count, faults in checks],
    }


def _with_state(ledger: Ledger) -> list[BatchRow]:
    return [batch for batch in ledger.batches() if batch.state in ("done", "rolled back")]


def _line(ledger: Ledger, model: str) -> set[int]:
    """Return a model's current batch and those that it goes back on."""
    current = ledger.current_batch(model)
    return set(line_of(ledger.batches(model), current.id if current else None))


def _batches(ledger: Ledger) -> tuple[int, list[str]]:
    """Those of the current line are done; the rest that left a state is rolled back."""
    batches, faults = _with_state(ledger), []
    lines = {model: _line(ledger, model) for model in {batch.model for batch in batches}}
    for batch in sorted(batches, key=lambda batch: batch.model):
        wanted = "done" if batch.id in lines[batch.model] else "rolled back"
        if batch.state != wanted:
            faults.append(f"batch {batch.id} is {batch.state}, and by its line of batches it should be {wanted}")
    return len(batches), faults


def _edits(ledger: Ledger) -> tuple[int, list[str]]:
    """An edit's state follows from its batch and from what ended it; its subject and relation are its fact's."""
    strangers, ended = strange_edits(ledger), endings(ledger)
    faults, checked = [], 0
    for model in ledger.models():
        edits = edits_of(ledger, model.key)
        states = states_after(edits, ended, _line(ledger, model.key))
        checked += len(edits)
        for edit in edits:
            if (edit.state, edit.ended_by) != states[edit.id]:
                faults.append(f"{_about(edit)} is {edit.state}, and by its batches it should be {states[edit.id][0]}")
            if edit.id in strangers:
                faults.append(f"{_about(edit)} does not match the fact that it refers to")
    return checked, faults


def _requests(ledger: Ledger) -> tuple[int, list[str]]:
    edits = [edit for model in ledger.models() for edit in edits_of(ledger, model.key)]
    wrong = (edit for edit in edits if edit.as_request.id != edit.request)
    return len(edits), [f"{_about(edit)}: its prompt, subject or object does not match its id" for edit in wrong]


def _about(edit: EditRow) -> str:
    return f"edit {edit.id} ({edit.relation} of {edit.subject}, batch {edit.batch})"


def _batch_files(ledger: Ledger) -> tuple[int, list[str]]:
    """Each file's sha256 is as recorded; of rolled back batches too, since they can be gone to."""
    files = [(batch, name, sha256) for batch in _with_state(ledger) for name, sha256 in batch.files.items()]
    current = {batch.id for model in ledger.models() if (batch := ledger.current_batch(model.key))}
    faults = []
    for batch, name, sha256 in files:
        if said := _fault_of(ledger.tensors / name, sha256):
            of_now = "it holds the current state: restore a copy, or delete it and run `kbsync apply`"
            faults.append(f"{said}; {of_now if batch.id in current else f'no rollback to batch {batch.id} without it'}")
    return len(files), faults


def _target_files(ledger: Ledger) -> tuple[int, list[str]]:
    """A file of target vectors is named by its own sha256."""
    rows, faults = Counter(row.file for row in ledger.targets()), []
    for file, count in rows.items():
        found = _CONTENT_NAMED.match(file)
        if found is None or Path(file).name != file:
            faults.append(f"{file!a} is not the name of a file of target vectors: {count} of them cannot be found")
        elif said := _fault_of(ledger.tensors / file, found[1]):
            faults.append(f"{said}; the next apply searches its {count} target vectors anew if the file is deleted")
    return len(rows), faults


def _covariance_files(ledger: Ledger) -> tuple[int, list[str]]:
    """Those that a model's current state was solved with are there, of the content that they had."""
    recorded: dict[str, str] = {}
    for model in ledger.models():
        current = ledger.current_batch(model.key)
        recorded |= current.work.get("covariances", {}) if current else {}
    faults = []
    for name, content in recorded.items():
        path = ledger.tensors / name
        try:
            if content_of(path) != content:
                faults.append(f"{path} is not the one that the current state was solved with: restore a copy of it")
        except LedgerError as error:
            again = "restore a copy, or delete it and collect it again with `kbsync stats`"
            faults.append(f"{str(error).partition(': ')[0]}: {again}")
    return len(recorded), faults


def _other_files(ledger: Ledger) -> tuple[int, list[str]]:
    """Covariances and the like: each carries the hash of its content, and a covariance that of all it depends on.

    Whatever is there is checked; whether one is missing is told by `_covariance_files`.
    """
    named = {name for batch in ledger.batches() for name in batch.files} | {row.file for row in ledger.targets()}
    others = [path for path in sorted(ledger.tensors.glob("*.safetensors")) if path.name not in named]
    faults = []
    for path in others:
        from kbsync.sync.covariances import read_record  # torch

        try:
            check_sealed(path)
            if path.name.startswith("covariance"):
                read_record(path)
        except LedgerError as error:
            faults.append(f"{str(error).partition(': ')[0]}: delete it; it is made again when needed")
    return len(others), faults


def _fault_of(path: Path, sha256: str) -> str | None:
    try:
        check_tensors(path, sha256)
    except LedgerError as error:
        return str(error).partition(": ")[0]
    return None


_PARTS: dict[str, Callable[[Ledger], tuple[int, list[str]]]] = {
    "values": lambda ledger: (1, ledger.wrong_values()),
    "batches": _batches,
    "edits": _edits,
    "requests": _requests,
    "files of batches": _batch_files,
    "files of target vectors": _target_files,
    "files of covariances": _covariance_files,
    "other files": _other_files,
}


_STATE_FILE = re.compile(r"[0-9a-f]{64}\.safetensors\Z")
"""files of batches and of target vectors, which no other name tells"""


def prune(home: Path, *, dry_run: bool = False) -> dict[str, Any]:
    """Remove what no state needs, and return it; with `dry_run` only say what that is."""
    with Ledger.open(home, create=False) as ledger, nullcontext() if dry_run else ledger.writer("prune"):
        needed = {row.file for row in ledger.targets()}
        needed |= {name for row in ledger.batches() if row.state in ("done", "rolled back") for name in row.files}
        found: list[dict[str, Any]] = [
            {"path": path, "bytes": path.stat().st_size}
            for path in sorted(ledger.tensors.glob("*.safetensors"))
            if _STATE_FILE.match(path.name) and path.name not in needed
        ]
        for path in () if dry_run else (file["path"] for file in found):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise LedgerError(f"cannot remove {path}: {error.strerror}") from error
    return {"dry_run": dry_run, "bytes": sum(file["bytes"] for file in found), "files": found}
