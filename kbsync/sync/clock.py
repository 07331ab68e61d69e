"""What a run costs: seconds by phase, and memory."""

import resource
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch

__all__ = ["Clock", "peak_memory_mb"]


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.started = time.monotonic()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time inside to a phase."""
        began = time.monotonic()
        try:
            yield
        finally:
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # what runs on the device still belongs to this phase
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

    def total(self) -> dict[str, float]:
        """Return all phases and the whole so far, rounded to milliseconds."""
        return {
            name: round(value, 3) for name, value in {**self.seconds, "total": time.monotonic() - self.started}.items()
        }


def peak_memory_mb(devices: Collection[torch.device]) -> float:
    """Return the most memory that was in use: the sum of the CUDA devices', or this process's where there is none."""
    cuda = [device for device in devices if device.type == "cuda"]
    if cuda:
        return round(sum(torch.cuda.max_memory_allocated(device) for device in cuda) / 2**20, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
