"""Processes that share one piece of work (``accelerate launch``): rank 0 leads, the others follow.

What passes between them is small beside the work, so it goes through gloo on the CPU, whatever the devices are.
"""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

PATIENCE = timedelta(days=1)
"""how long followers wait for the leader, who may be waiting for the user"""

Item = TypeVar("Item")
Value = TypeVar("Value")


class Team:
    """A process alone: it leads, its share is everything, and nothing is sent."""

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """Whether this process plans, solves and writes."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this process's part of `items`, which are dealt out in turn."""
        return items[self.rank :: self.size]

    def broadcast(self, value: Any) -> Any:
        """Return the leader's `value` on every process."""
        return value

    def gather(self, value: Item) -> list[Item]:
        """Return the values of all processes by rank, on the leader; nothing on the others."""
        return [value]

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum of all processes' tensors, on every process; on the CPU where there are several."""
        return tensor

    def lead(self, work: Callable[[], Value]) -> Value:
        """Return what `work` gives on the leader, who alone does it; what it raises is raised on every process."""
        outcome: tuple[Any, Exception | None] = (None, None)
        if self.leads:
            try:
                outcome = (work(), None)
            except Exception as error:  # goes on to the others, who wait for it
                outcome = (None, error)
        value, failure = self.broadcast(outcome)
        if failure is not None:
            raise failure
        return value  # type: ignore[no-any-return]

    def leave(self) -> None:
        """End the team; every process does so."""

    def columns(self, part: torch.Tensor | None) -> torch.Tensor | None:
        """Put together what the processes found for their `share` of u items, [n, their number] each, as [n, u].

        On the leader alone, on the device of its own part; a process with no item gives None.
        """
        parts = self.gather(part if self.size == 1 or part is None else part.cpu())
        found = [one for one in parts if one is not None]
        if not self.leads or part is None or len(parts) == 1:
            return part if self.leads else None
        whole = part.new_empty(len(part), sum(one.shape[1] for one in found))
        for rank, one in enumerate(parts):
            if one is not None:
                whole[:, rank :: self.size] = one.to(part.device)
        return whole


class GlooTeam(Team):
    """This process among those that a launcher started."""

    def __init__(self) -> None:
        if not distributed.is_initialized():
            distributed.init_process_group("gloo", timeout=PATIENCE)
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()

    def broadcast(self, value: Any) -> Any:
        held = [value if self.leads else None]
        distributed.broadcast_object_list(held, src=0)
        return held[0]

    def gather(self, value: Item) -> list[Item]:
        held: list[Any] | None = [None] * self.size if self.leads else None
        distributed.gather_object(value, held, dst=0)
        return held or []

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        summed = tensor.cpu().clone()
        distributed.all_reduce(summed)
        return summed

    def leave(self) -> None:
        distributed.destroy_process_group()


ALONE = Team()


def join_team() -> Team:
    """Return the team that a launcher's environment (``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``) names; else ALONE."""
    return GlooTeam() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ALONE


def local_device() -> str | None:
    """Return the GPU of this process where several share a machine; None where there is no such choice."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and torch.cuda.is_available():
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    return None
