"""The most memory that a piece of work had in use, so that two pieces in one process can be told apart."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

__all__ = ["PeakMemory"]

STATM = Path("/proc/self/statm")
EVERY = 0.02  # seconds


class PeakMemory:
    """Watches the memory of what runs inside `watching`, again and again if need be.

    On CUDA it is the allocator's own peak; elsewhere the resident memory of the process, looked at every 20 ms, so a
    shorter peak is missed. Memory that lay there before counts too.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.most = 0

    @property
    def mb(self) -> float | None:
        """The peak in MB (2^20 bytes); None where the system does not tell."""
        return round(self.most / 2**20, 1) if self.most else None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count the memory in use inside."""
        with self._allocator() if self.device.type == "cuda" else self._resident():
            yield

    @contextmanager
    def _allocator(self) -> Iterator[None]:
        torch.cuda.reset_peak_memory_stats(self.device)
        try:
            yield
        finally:
            self.most = max(self.most, torch.cuda.max_memory_allocated(self.device))

    @contextmanager
    def _resident(self) -> Iterator[None]:
        done = threading.Event()
        watcher = threading.Thread(target=self._keep_looking, args=(done,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            self._look()

    def _keep_looking(self, done: threading.Event) -> None:
        self._look()
        while not done.wait(EVERY):
            self._look()

    def _look(self) -> None:
        if STATM.exists():
            pages = int(STATM.read_text().split()[1])
            self.most = max(self.most, pages * os.sysconf("SC_PAGE_SIZE"))
