"""LocFT-BF, fine-tuning done well (Yang et al. 2026, arXiv 2509.22072), after its published code.

One down projection is tuned breadth first: in each epoch all requests in a new order, in batches, with the token that
ends a text behind each object. Which block suits a model is found by trying: 22 of 32 for Llama 3 (8B), whose share of
the depth is the default; the published one for Qwen 2.5 (7B) is 6 of 28.
"""

from dataclasses import dataclass
from typing import ClassVar

from kbsync.editors.editor import Deltas, Task
from kbsync.editors.ft import FineTuningSettings, fine_tune

LLAMA3_SHARE = 22 / 32
"""layer 22 of Llama 3's 32"""
PUBLISHED = FineTuningSettings(weight_decay=0.0, batch=100, shuffled=True, ends=True)


@dataclass(frozen=True, slots=True)
class LocFineTuning:
    """Adam on one down projection, in shuffled batches."""

    name: ClassVar[str] = "locft"
    targets: ClassVar[bool] = False
    covariance: ClassVar[bool] = False
    settings: FineTuningSettings = PUBLISHED

    def edit(self, task: Task) -> Deltas:
        """Return the change [d, m] of the one layer, in float32. Raises EditError where a loss is not finite."""
        return fine_tune(task, self.settings, LLAMA3_SHARE)
