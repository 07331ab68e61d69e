"""Seconds and memory: of phases in this process, and of commands that are processes of their own."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import psutil

from kbsync.errors import KbsyncError

EVERY = 0.02
"""seconds between two looks at the memory"""
END = 4096
"""bytes of a process's output that are read"""
MAXRSS_IN_MB = 2**20 if sys.platform == "darwin" else 2**10
"""what ru_maxrss counts, in a MB"""


class Phases:
    """Seconds and peak memory in MB of named phases, on one device.

    On CUDA the peak is the allocator's own; elsewhere it is the resident memory of the process, looked at every 20 ms,
    so that a shorter peak is missed. What lay there before counts too.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.peak_mb: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what runs inside, and watch its memory."""
        with self._cuda(name) if self.device.startswith("cuda") else self._resident(name):
            began = time.perf_counter()
            yield
            self._finish()
            self.seconds[name] = round(time.perf_counter() - began, 3)

    def _finish(self) -> None:
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self.device)

    @contextmanager
    def _cuda(self, name: str) -> Iterator[None]:
        import torch

        torch.cuda.reset_peak_memory_stats(self.device)
        yield
        self.peak_mb[name] = round(torch.cuda.max_memory_allocated(self.device) / 2**20, 1)

    @contextmanager
    def _resident(self, name: str) -> Iterator[None]:
        process, done = psutil.Process(), threading.Event()
        seen = [process.memory_info().rss]

        def watch() -> None:
            while not done.wait(EVERY):
                seen[0] = max(seen[0], process.memory_info().rss)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            self.peak_mb[name] = round(max(seen[0], process.memory_info().rss) / 2**20, 1)


@dataclass(frozen=True, slots=True)
class Took:
    """What a process took, its start included."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    """most memory that it held at once; what started it may count, until the process has more"""


def run_process(arguments: Sequence[str]) -> tuple[Took, str]:
    """Run ``python`` with these arguments; return what it took, and the end of what it printed.

    Raises KbsyncError, with the last line that it said, where it fails.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], stdout=out, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)  # of this process alone, unlike RUSAGE_CHILDREN
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            lines = end_of(said).strip().splitlines()
            raise KbsyncError(lines[-1] if lines else f"exit code {process.returncode}")
        return Took(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / MAXRSS_IN_MB), end_of(out)


def end_of(file: IO[bytes]) -> str:
    """Return the last part of a file's text."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - END))
    return file.read().decode(errors="replace")
