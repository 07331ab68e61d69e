"""Perplexity of text under a model: what an edit does to everything else."""

import math
from collections.abc import Sequence

import torch

from kbsync.models import LoadedModel, head_log_probs, last_hidden, make_rows
from kbsync.models.forward import batches_by_length

__all__ = ["perplexity"]

TOKEN_BUDGET = 4096


@torch.no_grad()
def perplexity(loaded: LoadedModel, lines: Sequence[str], length: int = 512) -> float:
    """Return exp of the mean negative log-probability of each line's tokens after its first; lower is better.

    Longer lines are cut at `length` tokens. Infinite where a probability is zero, and where there is no token to read.
    """
    tokenized: list[list[int]] = loaded.tokenizer(list(lines))["input_ids"] if lines else []
    rows = [ids[:length] for ids in tokenized if len(ids) > 1]
    total, count = 0.0, 0
    for batch in batches_by_length([len(row) for row in rows], TOKEN_BUDGET):
        padded = make_rows([rows[place] for place in batch], loaded.device)
        read = padded.mask[:, 1:].bool()
        hidden = last_hidden(loaded, padded)[:, :-1][read]
        log_probs = head_log_probs(loaded, hidden).gather(1, padded.ids[:, 1:][read][:, None])
        total, count = total - float(log_probs.double().sum()), count + len(hidden)
    if not count or not math.isfinite(total):
        return math.inf
    return float(torch.tensor(total / count, dtype=torch.float64).exp())  # infinite where math.exp would raise
