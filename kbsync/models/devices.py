"""The devices of this machine, and how much of their memory a model takes.

Processes that share one piece of work (``accelerate launch``): rank 0 leads, the others follow.

What passes between them is small beside the work, so it goes through gloo on the CPU, whatever the devices are.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from torch import distributed
from transformers import AutoConfig, DynamicCache

from kbsync.errors import KbsyncError, ModelError, foreign
from kbsync.models.checkpoint import check_config, find_checkpoint
from kbsync.models.forward import kept_in
from kbsync.models.loaded import LoadedModel

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


CGROUP = Path("/sys/fs/cgroup")
AUTO = "auto"
"""the device that stands for all there are, and the CPU and the disk beside them"""
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


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


def choose_device(name: str | None) -> torch.device:
    """Return the named device, or the best there is (for ``auto`` too): CUDA, then MPS, then the CPU."""
    name = name or local_device()
    if name in (None, AUTO):
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def choose_dtype(name: str | None, device: torch.device, stored: torch.dtype | None) -> torch.dtype:
    """Return the named dtype; by default float32 on a CPU and what the checkpoint is stored in elsewhere."""
    if name is None:
        return torch.float32 if device.type == "cpu" or stored is None else stored
    if name not in DTYPES:
        raise ModelError(f"dtype {name!r} is not one of {', '.join(DTYPES)}")
    return DTYPES[name]


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """Dimensions of a loaded model, in the words of DESIGN; bytes where a name says so."""

    blocks: int
    d: int
    m: int
    vocabulary: int
    positions: int | None
    """tokens of a sequence at most; None where the config sets no bound"""
    tied_head: bool
    """whether the output embedding is the input embedding"""
    weights_bytes: int
    item_bytes: int
    """of one number in the model's dtype"""
    cache_bytes: int
    """keys and values of one token in all blocks"""


@torch.no_grad()
def sizes_of(loaded: LoadedModel) -> ModelSizes:
    """Measure a loaded model; the cache by one token's forward, as families differ in what they keep."""
    model: Any = loaded.model
    d, m = loaded.family.weight(model, 0).shape
    head, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    cache: Any = DynamicCache(config=model.config)
    token = torch.zeros(1, 1, dtype=torch.long, device=loaded.device)
    model.base_model(input_ids=token, use_cache=True, **kept_in(model.base_model, cache))
    kept = [part for layer in cache.layers for part in (layer.keys, layer.values) if part is not None]
    return ModelSizes(
        blocks=len(loaded.family.block_list(model)),
        d=d,
        m=m,
        vocabulary=head.shape[0],
        positions=loaded.positions,
        tied_head=head.data_ptr() == embedding.data_ptr(),
        weights_bytes=sum(weight.numel() * weight.element_size() for weight in model.parameters()),
        item_bytes=model.dtype.itemsize,
        cache_bytes=sum(part.numel() * part.element_size() for part in kept),
    )


def checkpoint_bytes(source: str, device: torch.device, dtype: str | None) -> int | None:
    """Return the bytes of a model's weights as `load_model` would load it, from its config alone.

    None where the config cannot be read: `load_model` tells why.
    """
    try:
        with foreign(ModelError):
            checkpoint = find_checkpoint(source)
            config = AutoConfig.from_pretrained(checkpoint.place, **checkpoint.arguments())
            numbers = check_config(checkpoint, config)
    except KbsyncError:
        return None
    item: int = choose_dtype(dtype, device, getattr(config, "dtype", None)).itemsize
    return item * numbers
