"""The writer's lock: one process at a time changes a model's state, and a dead one holds nothing.

The lock is a flock, which goes with its process. Records that change no model's state (a pull, a veto, an answer) need
only SQLite's own lock, for a moment: they are made while an apply computes.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kbsync.errors import LedgerBusyError, LedgerError
from kbsync.ledger.connection import now

__all__ = ["WriterLock"]


class WriterLock:
    """The lock file of a home. While held it names its holder: pid, purpose, since when."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = False

    @property
    def held(self) -> bool:
        """Whether this object (not merely this process) holds the lock."""
        return self._held

    @contextmanager
    def hold(self, purpose: str) -> Iterator[None]:
        """Hold the lock. Raises LedgerBusyError, at once, when another holds it."""
        file = self._open()
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LedgerBusyError(self._busy_message()) from None
            holder = json.dumps({"pid": os.getpid(), "purpose": purpose, "since": now()})
            os.ftruncate(file, 0)
            os.pwrite(file, holder.encode(), 0)
            self._held = True
            try:
                yield
            finally:
                self._held = False
                os.ftruncate(file, 0)
        finally:
            os.close(file)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise LedgerError(f"cannot write {self._path}: {error.strerror}; choose another --home") from error

    def _busy_message(self) -> str:
        try:
            holder = json.loads(self._path.read_text(encoding="utf-8"))
            who = f"process {holder['pid']} ({holder['purpose']}, since {holder['since']})"
        except (OSError, ValueError, KeyError, TypeError):
            who = "another process"  # it has the lock and has not written its name yet
        return f"{who} is changing a model's state in {self._path.parent}: wait for it to end, then run again"
