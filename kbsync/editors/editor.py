"""What every editor takes and gives: requests in, deltas of down projections out."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from kbsync.errors import EditError, SettingsError
from kbsync.facts import EditRequest
from kbsync.memit import MemitSettings, RequestGroup, WeightDelta
from kbsync.models import ALONE, LoadedModel, Team

Deltas = Mapping[int, WeightDelta | torch.Tensor]
"""layer -> change of its W_out, [d, m]: what `kbsync.memit.edited` takes"""


def no_covariances(layers: Sequence[int]) -> Mapping[int, torch.Tensor]:
    """Stand where a task was given no covariances."""
    raise EditError(f"this editor needs the covariance of layers {list(layers)}: name a text for it (--corpus)")


def no_network() -> nn.Module:
    """Stand where a task was given no network."""
    raise EditError("MEND needs a network trained for this model: run `kbsync mend train --model ...` first")


@dataclass(frozen=True, slots=True)
class Task:
    """Requests to write into a model, and what editors need for it; what costs time is made when it is asked for."""

    loaded: LoadedModel
    groups: Sequence[RequestGroup]
    contexts: Sequence[str]
    settings: MemitSettings
    """the model's own: R, contexts, the search for target vectors"""
    covariances: Callable[[Sequence[int]], Mapping[int, torch.Tensor]] = no_covariances
    """layers -> C [m, m] of each, of the base model"""
    network: Callable[[], nn.Module] = no_network
    """MEND's trained network"""
    z: torch.Tensor | None = None
    """[u, d] target vectors of the groups at layer L, where they are known already"""
    earlier: Mapping[int, torch.Tensor] = field(default_factory=dict)
    """layer -> K_p K_p^T [m, m] over the keys of earlier edits that are in the weights"""
    held: Sequence[EditRequest] = ()
    """prompts that MEMIT's deltas are to leave alone"""
    progress: Callable[[str, int, int], None] = lambda phase, done, total: None
    """gets phase, done, total"""
    phase: Callable[[str], AbstractContextManager[None]] = lambda name: nullcontext()
    """is entered around "covariance", "keys" and "solve", so that they can be timed"""
    remark: Callable[[str], None] = lambda text: None
    """is told how the work is done"""
    team: Team = ALONE
    """the processes that share the work; the leader alone has covariances"""

    @property
    def requests(self) -> list[EditRequest]:
        """The members of all groups, in order."""
        return [request for group in self.groups for request in group.requests]

    def alone(self) -> list[RequestGroup]:
        """Return a group for each request: groups of one subject are kbsync's way, not other editors'."""
        return [RequestGroup((request,)) for request in self.requests]


class Editor(Protocol):
    """A way to write requests into weights. The loaded model is left bit for bit as it was."""

    name: ClassVar[str]
    targets: ClassVar[bool]
    """whether it takes target vectors, which are kept, on several wordings, and leaves held prompts alone: as MEMIT"""
    covariance: ClassVar[bool]
    """whether it takes the covariance of the layers that it edits"""

    @property
    def settings(self) -> Any:
        """The editor's own settings, a frozen dataclass."""

    def edit(self, task: Task) -> Deltas:
        """Return the change of each layer that the task's requests need; EditError where it cannot be found."""


@dataclass(frozen=True, slots=True)
class NoSettings:
    """For an editor that has no settings beside the model's own."""


NO_SETTINGS = NoSettings()


def block_at(loaded: LoadedModel, layer: int | None, share: float) -> int:
    """Return `layer`, or where it is None the block at this `share` of the model's depth.

    Raises SettingsError for a block that the model does not have.
    """
    depth = len(loaded.family.block_list(loaded.model))
    if layer is None:
        return min(depth - 1, round(share * depth))
    if layer >= depth:
        raise SettingsError(f"layer: {layer} is too high; the model has {depth} blocks, so {depth - 1} is the highest")
    return layer


def check(settings: object, wanted: str, good: Callable[[Any], bool], *names: str) -> None:
    """Raise SettingsError unless each named field is `good` (told as `wanted`), finite, or None."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and (not good(value) or not math.isfinite(value)):
            raise SettingsError(f"{name}: {value} is not {wanted}")
