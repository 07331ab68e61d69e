"""Prune: take away the tensor files that no state needs. Loads no model.

A state needs the files of its batch, done or rolled back (it can be gone to), and those of the target vectors on
record. Covariances and the like are kept: they were long in the making, and the next apply asks for them.
"""

import re
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from kbsync.errors import LedgerError
from kbsync.ledger import Ledger

__all__ = ["Leftover", "Pruned", "prune"]

_CONTENT_NAMED = re.compile(r"[0-9a-f]{64}\.safetensors\Z")
"""files of batches and of target vectors, which no other name tells"""


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that no state needs, and its size in bytes."""

    path: Path
    bytes: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed; with `dry_run`, what would be."""

    dry_run: bool
    files: tuple[Leftover, ...]

    @property
    def bytes(self) -> int:
        """The size of all of them."""
        return sum(file.bytes for file in self.files)


def prune(home: Path, *, dry_run: bool = False) -> Pruned:
    """Remove what no state needs; with `dry_run` only say what that is.

    Raises LedgerError where there is no ledger or a file cannot be removed, LedgerBusyError while an apply runs.
    """
    with (
        Ledger.open(home, create=False) as ledger,
        nullcontext() if dry_run else ledger.writer("prune"),
    ):
        needed = {row.file for row in ledger.targets()}
        needed |= {name for row in ledger.batches() if row.state in ("done", "rolled back") for name in row.files}
        found = tuple(
            Leftover(path, path.stat().st_size)
            for path in sorted(ledger.tensors.glob("*.safetensors"))
            if _CONTENT_NAMED.match(path.name) and path.name not in needed
        )
        for file in () if dry_run else found:
            try:
                file.path.unlink(missing_ok=True)
            except OSError as error:
                raise LedgerError(f"cannot remove {file.path}: {error.strerror}") from error
    return Pruned(dry_run, found)
