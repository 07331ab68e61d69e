"""MEND (Mitchell et al. 2022, arXiv 2110.11309) applied: one pass over a whole batch, its tokens' edits summed."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from kbsync.editors.editor import NO_SETTINGS, Deltas, NoSettings, Task
from kbsync.editors.mend_factors import gradient_factors
from kbsync.editors.objects import object_texts
from kbsync.errors import EditError
from kbsync.models.forward import batches_by_length

__all__ = ["Mend"]

TOKEN_BUDGET = 8192
"""padded tokens of one pass"""


@dataclass(frozen=True, slots=True)
class Mend:
    """The trained network's edit of all requests together; its settings are those that it was trained with."""

    name: ClassVar[str] = "mend"
    settings: NoSettings = NO_SETTINGS

    @torch.no_grad()
    def edit(self, task: Task) -> Deltas:
        """Return the change [d, m] of each layer of the network, in float32."""
        network = task.network()
        texts = object_texts(task.loaded, task.requests)
        if not texts:
            raise EditError("there is no request to edit")
        total: dict[int, torch.Tensor] = {}
        done = 0
        for places in batches_by_length([len(text.ids) for text in texts], TOKEN_BUDGET):
            factors = gradient_factors(task.loaded, [texts[place] for place in places], network.layers)
            for layer, change in network(factors).items():
                total[layer] = total[layer] + change if layer in total else change
            done += len(places)
            task.progress("mend", done, len(texts))
        return total
