"""Free text from a model: top-k sampling in batches, with a key-value cache."""

import random
from collections.abc import Callable, Sequence
from itertools import takewhile

import torch

from kbsync.models.answers import end_tokens
from kbsync.models.forward import Rows, batches_by_length, continue_hidden, fill_cache, head_log_probs, make_rows
from kbsync.models.load import LoadedModel

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
    # The last token of each row opens its suffix, so that one function makes every step.
    context = make_rows([row[:-1] for row in rows], loaded.device, left=True)
    cache = fill_cache(loaded, context)
    token = torch.tensor([[row[-1]] for row in rows], device=loaded.device)
    chance = torch.tensor(draws)
    ends = torch.tensor(end_tokens(loaded), dtype=torch.long)
    ended = torch.zeros(len(rows), dtype=torch.bool)
    said: list[torch.Tensor] = []
    for step in range(steps):
        one = Rows(token, torch.ones_like(token))
        hidden = continue_hidden(loaded, context, one, cache)[:, -1]
        chosen = draw(head_log_probs(loaded, hidden), top_k, chance[:, step])
        said.append(chosen)
        ended |= torch.isin(chosen, ends)
        if ended.all():
            break
        context = Rows(torch.cat([context.ids, token], 1), torch.cat([context.mask, one.mask], 1))
        token = chosen[:, None].to(loaded.device)
    columns = torch.stack(said, 1).tolist()
    stop = set(ends.tolist())
    return [
        list(takewhile(lambda one: one not in stop, tokens[: max(0, length - len(row))]))
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
