"""Prune takes away what no state needs, and nothing else."""

from pathlib import Path

import pytest

from kbsync.errors import LedgerBusyError
from kbsync.ledger import Ledger
from kbsync.ledger.edits import roll_back
from kbsync.sync.verify import prune
from tests.ledger.helpers import apply, fact, model, new_edit, pull

CURRENT, BACK, TARGETS, LEFT = (f"{letter * 64}.safetensors" for letter in "abcd")
COVARIANCE = f"covariance2-{'e' * 64}.safetensors"


@pytest.fixture
def full(home: Path) -> Path:
    """A home with a current batch, one rolled back, target vectors, a covariance, and a file that nothing names."""
    with Ledger.open(home) as ledger:
        key = model(ledger)
        pull(ledger, fact("A", "x"), fact("B", "x"))
        one, other = ledger.facts()
        first = apply(ledger, key, added=[new_edit(one)], files={CURRENT: "aa"})
        apply(ledger, key, added=[new_edit(other)], files={BACK: "bb"})
        roll_back(ledger, key, first)
        ledger.record_targets(key, TARGETS, [("z1", 0, 5, 0.1)])
        ledger.tensors.mkdir()
        for size, name in enumerate((CURRENT, BACK, TARGETS, LEFT, COVARIANCE)):
            (ledger.tensors / name).write_bytes(b"." * size)
    return home


def names(home: Path) -> set[str]:
    return {path.name for path in (home / "tensors").iterdir()}


def test_what_no_state_needs_goes(full: Path) -> None:
    before = names(full)
    told = prune(full, dry_run=True)
    assert told == {"dry_run": True, "bytes": 3, "files": [{"path": full / "tensors" / LEFT, "bytes": 3}]}
    assert names(full) == before
    assert prune(full)["files"] == told["files"]
    assert names(full) == before - {LEFT}
    assert prune(full)["files"] == []


def test_not_while_an_apply_runs(full: Path) -> None:
    with Ledger.open(full) as ledger, ledger.writer("apply"), pytest.raises(LedgerBusyError, match="apply"):
        prune(full)
    assert LEFT in names(full)
