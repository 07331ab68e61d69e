"""MEMIT as kbsync does it (Meng et al. 2023, arXiv 2210.07229): targets of groups, spread over R."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from kbsync.editors.editor import NO_SETTINGS, Deltas, NoSettings, Task
from kbsync.memit import optimise_targets, spread


@dataclass(frozen=True, slots=True)
class Memit:
    """MEMIT with the model's own settings."""

    name: ClassVar[str] = "memit"
    targets: ClassVar[bool] = True
    covariance: ClassVar[bool] = True
    settings: NoSettings = NO_SETTINGS

    def edit(self, task: Task) -> Deltas:
        """Return the delta of each layer of R; target vectors that the task has are not searched again."""
        z = task.z
        if z is None:
            found = optimise_targets(task.loaded, task.groups, task.contexts, task.settings, progress=task.progress)
            z = torch.stack([target.z for target in found])
        with task.phase("covariance"):
            covariances = task.covariances(task.settings.layers) if task.team.leads else {}
        given = task.groups, task.contexts, z, covariances, task.settings, task.progress
        return spread(task.loaded, *given, task.phase, task.remark, task.team, task.held)
