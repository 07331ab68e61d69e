"""Free text from a model: top-k sampling in batches."""

import random
from collections.abc import Callable, Sequence
from itertools import takewhile

import torch

from kbsync.models.answers import end_tokens, speak
from kbsync.models.forward import batches_by_length
from kbsync.models.loaded import LoadedModel

__all__ = ["generate_texts"]

TOKEN_BUDGET = 16384


@torch.no_grad()
def generate_texts(
    loaded: LoadedModel,
    prompts: Sequence[str],
    length: int,
    *,
    top_k: int,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """Return each prompt with what the model says after it, `length` tokens in all, up to the end of its text.

    Each token is drawn from the `top_k` likeliest by their probabilities (1: greedily). The draws of a prompt come
    from `seed` and the prompt alone, so that a batch says what its rows would say one by one.
    """
    rows: list[list[int]] = loaded.tokenizer(list(prompts))["input_ids"] if prompts else []
    texts = [""] * len(rows)
    done = 0
    for batch in batches_by_length([max(length, len(row)) for row in rows], TOKEN_BUDGET):
        draws = [draws_for(prompts[place], length, seed) for place in batch]
        said = continue_rows(loaded, [rows[place] for place in batch], length, top_k, draws)
        for place, tokens in zip(batch, said, strict=True):
            texts[place] = prompts[place] + continuation(loaded, rows[place], tokens)
        done += len(batch)
        progress(done)
    return texts


def draws_for(prompt: str, count: int, seed: int) -> list[float]:
    """Return `count` numbers from 0 to 1 that belong to a prompt."""
    rng = random.Random(f"{seed} {prompt}")
    return [rng.random() for _ in range(count)]


def continue_rows(
    loaded: LoadedModel, rows: Sequence[Sequence[int]], length: int, top_k: int, draws: Sequence[Sequence[float]]
) -> list[list[int]]:
    """Return the tokens said after each row, up to `length` in all and without the one that ends a text."""
    steps = length - min(map(len, rows))
    if steps < 1:
        return [[] for _ in rows]
    chance = torch.tensor(draws)
    columns = speak(loaded, rows, steps, lambda log_probs, step: draw(log_probs, top_k, chance[:, step])).tolist()
    ends = end_tokens(loaded)
    return [
        list(takewhile(lambda one: one not in ends, tokens[: max(0, length - len(row))]))
        for row, tokens in zip(rows, columns, strict=True)
    ]


def draw(log_probs: torch.Tensor, top_k: int, chance: torch.Tensor) -> torch.Tensor:
    """Return a token [n] for each row of [n, V]: the first of the `top_k` whose summed share exceeds `chance` [n]."""
    best = log_probs.topk(min(top_k, log_probs.shape[-1]), dim=-1)
    shares = best.values.softmax(-1).cumsum(-1).cpu()
    place = (shares <= chance[:, None]).sum(-1).clamp(max=shares.shape[-1] - 1)
    return best.indices.cpu().gather(1, place[:, None])[:, 0]


def continuation(loaded: LoadedModel, row: Sequence[int], said: Sequence[int]) -> str:
    """Return what tokens add to a row's text; decoded together with it, since some decoders drop a leading space."""
    before = str(loaded.tokenizer.decode(list(row), skip_special_tokens=True))
    return str(loaded.tokenizer.decode([*row, *said], skip_special_tokens=True))[len(before) :]
