"""The devices of this machine and their memory."""

from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

__all__ = ["DeviceMemory", "list_devices"]

CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """A device as torch names it, what it is, and its memory in bytes."""

    name: str
    about: str
    total: int
    free: int


def list_devices() -> list[DeviceMemory]:
    """Return every device that torch can use here: CUDA's, then MPS, then the CPU."""
    found = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        found.append(DeviceMemory(f"cuda:{number}", torch.cuda.get_device_name(number), total, free))
    if torch.backends.mps.is_available():
        total = torch.mps.recommended_max_memory()
        found.append(DeviceMemory("mps", "Apple GPU", total, total - torch.mps.driver_allocated_memory()))
    return [*found, processor()]


def processor() -> DeviceMemory:
    """Return the CPU with the memory that this process may have: the machine's, or its container's if that is less."""
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    limit, used = cgroup_figure("memory.max"), cgroup_figure("memory.current")
    if limit is not None and used is not None and limit < total:
        total, free = limit, min(free, limit - used)
    return DeviceMemory("cpu", f"{torch.get_num_threads()} threads", total, free)


def cgroup_figure(name: str) -> int | None:
    """Return a figure of the container's control group in bytes; None where there is none, or no limit."""
    try:
        text = (CGROUP / name).read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
