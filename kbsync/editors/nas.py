"""NAS, norm-anchor scaling (Liu et al. 2026, arXiv 2602.02543): AlphaEdit's solve for values of the usual size.

With h the block's output at S, v0 what its MLP adds there, and delta what the search found, v* = v0 + delta. NAS scales
v* to n, the mean |v*| of requests to the unedited model without the largest twentieth, and leaves the value as it was
where |v*| > 2 n:

    z = (h - v0) + n v* / |v*|

Its published code takes n over CounterFact's requests; here it is over the requests of the task itself, which kbsync
always searches on the unedited model. What the paper is about, edits upon edits whose norms grow, does not come up:
every state is made from the base.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from kbsync.editors.alphaedit import AlphaEdit, AlphaEditSettings, own_targets
from kbsync.editors.editor import Deltas, Task, check
from kbsync.errors import EditError
from kbsync.memit import RequestGroup
from kbsync.memit.keys import SubjectStates


@dataclass(frozen=True, slots=True)
class NasSettings:
    """NAS's settings; the defaults are those published for GPT-J. R and the search are the model's own."""

    threshold: float = 0.02
    """AlphaEdit's"""
    alpha: float = 10.0
    """AlphaEdit's"""
    dropped: float = 0.05
    """share of the largest |v*| that n is taken without"""
    skipped: float = 2.0
    """a v* of more than this times n is left out"""

    def __post_init__(self) -> None:
        """Refuse what no model can be edited with."""
        check(self, "above 0", lambda value: value > 0, "threshold", "alpha", "skipped")
        check(self, "from 0 to below 1", lambda value: 0 <= value < 1, "dropped")


@dataclass(frozen=True, slots=True)
class Nas:
    """AlphaEdit with anchored values."""

    name: ClassVar[str] = "nas"
    targets: ClassVar[bool] = False
    covariance: ClassVar[bool] = True
    settings: NasSettings = NasSettings()

    def edit(self, task: Task) -> Deltas:
        """Return the delta of each layer of R; raises as AlphaEdit does, and for a model with a norm behind the MLP."""
        groups, settings, z = own_targets(task)
        layer = settings.layers[-1]
        if task.loaded.family.norm_behind(task.loaded.model, layer) is not None:
            raise EditError("NAS scales what an MLP adds, and this model has a norm behind its MLPs")
        hidden, added = at_subject(task, groups, layer)
        own = self.settings
        values = anchored(added + (z.double() - hidden), added, own.dropped, own.skipped)
        targets = (hidden - added + values).to(z)
        theirs = AlphaEditSettings(own.threshold, own.alpha)
        return AlphaEdit(theirs).edit(replace(task, groups=groups, z=targets))


def anchored(values: torch.Tensor, before: torch.Tensor, dropped: float, skipped: float) -> torch.Tensor:
    """Return the values v* [u, d] scaled to the mean norm n; those too large become what was there `before`."""
    norms = values.norm(dim=1)
    kept = norms.sort().values[: len(norms) - int(dropped * len(norms))]
    n = kept.mean()
    return torch.where((norms > skipped * n)[:, None], before, values * (n / norms)[:, None])


@torch.no_grad()
def at_subject(task: Task, groups: Sequence[RequestGroup], layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a block's output and what its MLP adds at S of the bare prompts, both [u, d] in float64 on the CPU."""
    states = SubjectStates(task.loaded, groups, ("{}",))
    if layer:
        states.advance(0, layer - 1)
    keys, hidden = states.bare_keys_and_hidden(layer, layer)
    added = keys @ task.loaded.weight(layer).to(keys).T
    bias = getattr(task.loaded.family.down_projection(task.loaded.model, layer), "bias", None)
    return hidden.cpu(), (added if bias is None else added + bias.to(added)).cpu()
