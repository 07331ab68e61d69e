"""How likely a model finds the objects of requests, with gradient: what fine-tuning and MEND descend on."""

from collections.abc import Sequence

import torch

from kbsync.facts import EditRequest
from kbsync.models import LoadedModel, TokenizedPrompt, head_log_probs, last_hidden, locate, make_rows

__all__ = ["object_log_probs", "object_losses", "object_texts"]


def object_texts(loaded: LoadedModel, requests: Sequence[EditRequest]) -> list[TokenizedPrompt]:
    """Return the tokens of each request's prompt and target."""
    return locate(loaded.tokenizer, [(request.prompt, request.subject, request.target) for request in requests])


def object_log_probs(loaded: LoadedModel, texts: Sequence[TokenizedPrompt]) -> torch.Tensor:
    """Return next-token log-probabilities [n, V] where the n target tokens of all texts are predicted, in order."""
    rows = make_rows([text.ids[:-1] for text in texts], loaded.device)
    hidden = last_hidden(loaded, rows)
    places = [(row, spot - 1) for row, text in enumerate(texts) for spot in range(text.target_start, len(text.ids))]
    row, spot = torch.tensor(places, device=hidden.device).T
    return head_log_probs(loaded, hidden[row, spot])


def object_losses(loaded: LoadedModel, texts: Sequence[TokenizedPrompt]) -> torch.Tensor:
    """Return -log P of each text's target, the mean over its tokens, [len(texts)]."""
    log_probs = object_log_probs(loaded, texts)
    tokens = torch.tensor([token for text in texts for token in text.target], device=log_probs.device)
    nll = -log_probs.gather(1, tokens[:, None])[:, 0]
    counts = torch.tensor([len(text.target) for text in texts], device=nll.device)
    row = torch.repeat_interleave(torch.arange(len(texts), device=nll.device), counts)
    return torch.zeros(len(texts), device=nll.device).index_add(0, row, nll) / counts
