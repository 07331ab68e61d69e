"""Where the solve is done: on the model's devices where float64 is fast there, else on the CPU."""

import time
from collections.abc import Iterable
from functools import cache

import torch

SIZE = 1024
"""rows of the matrix that is timed"""


def solve_device(devices: Iterable[torch.device]) -> tuple[torch.device, str]:
    """Return the device for Eqn. 14, and a remark that says why.

    Of the `devices` on which a float64 Cholesky takes no longer than on the CPU, it is the one with the most free
    memory; the CPU where there is none. Each is timed once in a process.
    """
    others = [device for device in dict.fromkeys(devices) if device.type != "cpu"]
    if not others:
        return torch.device("cpu"), "solve on cpu: the model uses no other device"
    seconds = {device: cholesky_seconds(device) for device in (torch.device("cpu"), *others)}
    cpu = seconds[torch.device("cpu")]
    fast = [device for device in others if seconds[device] <= cpu]
    chosen = max(fast, key=free_memory) if fast else torch.device("cpu")
    told = ", ".join(
        f"{device} {'has no float64' if value == float('inf') else f'{1000 * value:.1f} ms'}"
        for device, value in seconds.items()
    )
    return chosen, f"solve on {chosen}: a float64 Cholesky of {SIZE} rows takes {told}"


@cache
def cholesky_seconds(device: torch.device) -> float:
    """Return the shortest of three float64 Cholesky factorisations on a device; infinity where it has no float64."""
    if device.type == "mps":
        return float("inf")
    noise = torch.randn(SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(device)
    matrix = noise @ noise.T + SIZE * torch.eye(SIZE, dtype=torch.float64, device=device)
    took = []
    for _ in range(3):  # the first one of a process also loads the library
        began = time.perf_counter()
        torch.linalg.cholesky_ex(matrix)[1].item()
        took.append(time.perf_counter() - began)
    return min(took)


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a device; 0 where it does not tell."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
