"""Which requests the model is sure of while its layers change: each token of the target outweighs all others."""

import math
from collections.abc import Sequence

import torch

from kbsync.facts import EditRequest
from kbsync.memit.fast.shared_rows import RowBatch, SharedRows
from kbsync.models import LoadedModel, head_log_probs, locate

__all__ = ["SURE", "RecallCheck"]

SURE = 0.5
"""a token of this probability is likelier than all others together; being the likeliest alone, an edit is often held on
its own prompt but not on another wording"""


class RecallCheck:
    """The requests' prompts with their targets, ready to be run again and again from the first edited layer on."""

    def __init__(self, loaded: LoadedModel, requests: Sequence[EditRequest], first_layer: int) -> None:
        self.loaded, self.first_layer = loaded, first_layer
        prompts = [request.prompt for request in requests]
        self.placed = locate(loaded.tokenizer, [(one.prompt, one.subject, one.target) for one in requests])
        ids = [tokens.ids[:-1] for tokens in self.placed]
        shareable = [tokens.target_start - 1 for tokens in self.placed]  # from there on logits are read
        self.rows = SharedRows(loaded, ids, shareable, prompts, [""] * len(ids))
        if first_layer > 0:
            self.rows.advance(0, first_layer - 1)

    def sure(self) -> list[bool]:
        """Return for each request whether every token of its target has a probability of `SURE` at least."""
        last = len(self.rows.blocks) - 1
        self.rows.run_prefixes(self.first_layer, last)
        found = [False] * len(self.placed)
        for batch in self.rows.batches:
            hidden = self.rows.run(batch, self.first_layer, last)
            assert hidden is not None, "the pass went to the end"
            for place, good in zip(batch.places, self.sure_of(batch, hidden), strict=True):
                found[place] = good
        return found

    def sure_of(self, batch: RowBatch, hidden: torch.Tensor) -> list[bool]:
        """Return the same for the rows of one batch, of final hidden states [B, T, d]."""
        reads = [
            (row, self.placed[place].target_start + k - 1 - start, token)
            for row, (place, start) in enumerate(zip(batch.places, batch.starts, strict=True))
            for k, token in enumerate(self.placed[place].target)
        ]
        row, position, token = (torch.tensor(column, device=hidden.device) for column in zip(*reads, strict=True))
        log_probs = head_log_probs(self.loaded, hidden[row, position])
        own = log_probs.gather(1, token[:, None].to(log_probs.device))[:, 0].to(hidden.device)
        missed = torch.zeros(len(batch.places), dtype=torch.bool, device=hidden.device)
        missed[row[own < math.log(SURE)]] = True
        return [not one for one in missed.tolist()]
