"""Scores the plain way: one text at a time, the whole forward, no mask and no padding."""

import torch

from kbsync.models import LoadedModel


def next_log_probs(loaded: LoadedModel, ids: list[int]) -> torch.Tensor:
    """Log-probabilities [T, V] after each token of one row."""
    logits: torch.Tensor = loaded.model(torch.tensor([ids])).logits[0]
    return logits.log_softmax(-1)


def plain_accuracy(loaded: LoadedModel, template: str, subject: str, target: str) -> float:
    """Share of the target's tokens that are the argmax, given those before them."""
    prompt = template.format(subject)
    encoded = loaded.tokenizer(f"{prompt} {target}")
    ids, start = encoded["input_ids"], encoded.char_to_token(len(prompt))
    right = [int(next_log_probs(loaded, ids[:place])[-1].argmax()) == ids[place] for place in range(start, len(ids))]
    return float(sum(right) / len(right))


def plain_score(loaded: LoadedModel, template: str, subject: str, target: str) -> tuple[float, bool]:
    prompt = template.format(subject)
    encoded = loaded.tokenizer(f"{prompt} {target}")
    ids, start = encoded["input_ids"], encoded.char_to_token(len(prompt))
    log_probs = next_log_probs(loaded, ids)
    wanted = [float(log_probs[place - 1, ids[place]]) for place in range(start, len(ids))]
    exact = all(int(log_probs[place - 1].argmax()) == ids[place] for place in range(start, len(ids)))
    return sum(wanted) / len(wanted), exact
