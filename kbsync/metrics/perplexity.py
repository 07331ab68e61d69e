"""Perplexity of text under a model: what an edit does to everything else."""

import math
from collections.abc import Sequence

import torch

from kbsync.metrics.metric import TextMetric
from kbsync.models import LoadedModel, head_log_probs, last_hidden, make_rows
from kbsync.models.forward import batches_by_length

TOKEN_BUDGET = 4096


@torch.no_grad()
def line_losses(loaded: LoadedModel, lines: Sequence[str], length: int = 512) -> torch.Tensor:
    """Return, for each line of two tokens or more, [-log P of its tokens after the first, their number], in float64.

    Longer lines are cut at `length` tokens, or at the model's positions where it has fewer.
    """
    length = min(length, loaded.positions or length)
    tokenized: list[list[int]] = loaded.tokenizer(list(lines))["input_ids"] if lines else []
    rows = [ids[:length] for ids in tokenized if len(ids) > 1]
    found = torch.zeros(len(rows), 2, dtype=torch.float64)
    for batch in batches_by_length([len(row) for row in rows], TOKEN_BUDGET):
        padded = make_rows([rows[place] for place in batch], loaded.device)
        read = padded.mask[:, 1:].bool()
        hidden = last_hidden(loaded, padded)[:, :-1][read]
        log_probs = head_log_probs(loaded, hidden).gather(1, padded.ids[:, 1:][read][:, None])[:, 0]
        owner = torch.tensor(batch)[read.nonzero()[:, 0].cpu()]
        found.index_add_(0, owner, torch.stack([-log_probs.double().cpu(), torch.ones(len(owner)).double()], dim=1))
    return found


def of_means(means: torch.Tensor) -> torch.Tensor:
    """Return exp(loss / tokens) of means [..., 2]; infinite where a loss is not finite."""
    return (means[..., 0] / means[..., 1]).exp().nan_to_num(math.inf, math.inf)


def perplexity(loaded: LoadedModel, lines: Sequence[str], length: int = 512) -> float:
    """Return exp of the mean negative log-probability of each line's tokens after its first; lower is better.

    Longer lines are cut at `length` tokens. Infinite where a probability is zero, and where there is no token to read.
    """
    return float(of_means(line_losses(loaded, lines, length).sum(0)))


PERPLEXITY = TextMetric("perplexity", line_losses, of_means)
