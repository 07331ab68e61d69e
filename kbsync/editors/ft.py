"""FT-W: fine-tuning of one layer with weight decay, as the MEMIT paper's appendix B.1 has it for its tables.

Adam on -log P[object | prompt] of the requests, batch after batch; a batch whose loss is under 0.01 takes no step, and
an epoch whose mean loss is under 0.01 is the last. The paper fine-tunes all of GPT-J's block 21; every editor here
changes down projections, so here it is the block's down projection.

LocFT-BF, fine-tuning done well (Yang et al. 2026, arXiv 2509.22072), after its published code.

One down projection is tuned breadth first: in each epoch all requests in a new order, in batches, with the token that
ends a text behind each object. Which block suits a model is found by trying: 22 of 32 for Llama 3 (8B), whose share of
the depth is the default; the published one for Qwen 2.5 (7B) is 6 of 28.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from kbsync.editors.editor import Deltas, Task, block_at, changed_outputs, check, object_losses, object_texts
from kbsync.errors import EditError
from kbsync.models import LoadedModel, TokenizedPrompt, execution_device
from kbsync.models.forward import Captured, batches_by_length, capture, resume
from kbsync.models.generation import end_tokens

GPTJ_SHARE = 21 / 28  # layer 21 of GPT-J's 28
LLAMA3_SHARE = 22 / 32  # layer 22 of Llama 3's 32: LocFT-BF's
TOKEN_BUDGET = 8192  # padded tokens of one pass


@dataclass(frozen=True, slots=True)
class FineTuningSettings:
    """FT-W's settings; the defaults are those published for GPT-J."""

    layer: int | None = None
    """block whose down projection is tuned; none means at the share of depth that GPT-J's 21 of 28 is"""
    steps: int = 25
    """epochs over all requests at most"""
    lr: float = 5e-4
    """Adam's learning rate"""
    weight_decay: float | None = None
    """Adam's weight decay; none is the published law for n requests, n^-0.870 x e^0.156, 4e-4 for 10,000"""
    batch: int = 64
    """requests of one step"""
    stop_loss: float = 0.01
    """mean -log P under which there is no further step"""
    shuffled: bool = False
    """whether each epoch has its own order of the requests"""
    ends: bool = False
    """whether the token that ends a text follows the object, so that answers learn to stop"""

    def __post_init__(self) -> None:
        check(self, "0 or more", lambda value: value >= 0, "layer", "weight_decay", "stop_loss")
        check(self, "1 or more", lambda value: value >= 1, "steps", "batch")
        check(self, "above 0", lambda value: value > 0, "lr")

    def decay(self, requests: int) -> float:
        return requests**-0.87028798 * math.exp(0.15589562) if self.weight_decay is None else self.weight_decay


LOCFT = FineTuningSettings(weight_decay=0.0, batch=100, shuffled=True, ends=True)
"""LocFT-BF's"""


def fine_tune(task: Task, own: FineTuningSettings, share: float = GPTJ_SHARE) -> Deltas:
    """Return the change [d, m], in float32, of one down projection: at a `share` of the depth if no layer is named.

    Raises EditError where a loss is not finite.
    """
    if not task.groups:
        raise EditError("no requests to edit")
    loaded = task.loaded
    layer = block_at(loaded, own.layer, share)
    device = execution_device(loaded.family.down_projection(loaded.model, layer))
    base = loaded.weight(layer).to(device).float()
    weight = base.clone().requires_grad_()
    texts = object_texts(loaded, task.requests)
    if own.ends:
        end = end_tokens(loaded)[:1]
        texts = [replace(text, ids=(*text.ids, *end)) for text in texts]
    batches = batched(loaded, layer, texts, own.batch)
    optimizer = torch.optim.Adam([weight], lr=own.lr, weight_decay=own.decay(len(texts)))
    with changed_outputs(loaded, {layer: lambda given: given @ (weight - base).T}):
        for epoch in range(own.steps):
            if own.shuffled:
                batches = batched(loaded, layer, random.Random(epoch).sample(texts, len(texts)), own.batch)
            losses = [step(batch, optimizer, own.stop_loss) for batch in batches]
            task.progress("fine-tuning", epoch + 1, own.steps)
            if sum(losses) < own.stop_loss * len(texts):
                break
    return {layer: weight.detach() - base}


def step(batch: Sequence["Part"], optimizer: torch.optim.Optimizer, stop_loss: float) -> float:
    """Take one step on the mean loss of a batch, unless it is small enough; return the losses' sum before it."""
    optimizer.zero_grad()
    size, loss = sum(len(part.texts) for part in batch), 0.0
    for part in batch:
        mean = part.losses().sum() / size
        mean.backward()
        loss += mean.item()
    if not math.isfinite(loss):
        raise EditError("the loss of fine-tuning is not finite: use a smaller lr, or --dtype float32")
    if loss >= stop_loss:
        optimizer.step()
    return loss * size


def batched(loaded: LoadedModel, layer: int, texts: Sequence[TokenizedPrompt], size: int) -> list[list["Part"]]:
    """Return the texts in batches of a size, in their order; a batch is in parts of alike lengths."""
    batches = [texts[start : start + size] for start in range(0, len(texts), size)]
    return [
        [
            Part(loaded, layer, [batch[place] for place in places])
            for places in batches_by_length([len(text.ids) for text in batch], TOKEN_BUDGET)
        ]
        for batch in batches
    ]


class Part:
    """Texts of one pass. The blocks below the tuned one do not change, so they run in the first pass alone.

    What they gave, [B, T, d], stays on their device: for 10,000 requests to GPT-J in 16 bits, about 2 GB.
    """

    def __init__(self, loaded: LoadedModel, layer: int, texts: Sequence[TokenizedPrompt]) -> None:
        self.loaded, self.layer, self.texts = loaded, layer, texts
        self.below: Captured | None = None

    def losses(self) -> torch.Tensor:
        """Return -log P of each text's target, [B], with gradient for the tuned weight."""
        blocks = self.loaded.family.block_list(self.loaded.model)
        if not self.layer:
            return object_losses(self.loaded, self.texts)
        if self.below is None:
            with capture(blocks[self.layer - 1]) as below:
                losses = object_losses(self.loaded, self.texts)
            self.below = below
            return losses
        with resume(blocks, self.layer - 1, self.below.as_tuple) as stand_in:
            stand_in.value = self.below.value
            return object_losses(self.loaded, self.texts)
