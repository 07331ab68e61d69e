"""What a model says after a prompt: greedily, its likeliest answers, or drawn at random."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

import torch
from transformers import DynamicCache

from kbsync.models.forward import (
    Rows,
    batches_by_length,
    check_numbers,
    continue_hidden,
    fill_cache,
    head_log_probs,
    kept_in,
    last_hidden,
    make_rows,
)
from kbsync.models.loaded import LoadedModel

TOKEN_BUDGET = 8192
ANSWER_TOKENS = 12
LOOK = 4
"""tokens between two looks at whether enough of an answer is said"""
UNSAID = -1


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer with its probability: the product over its tokens."""

    text: str
    probability: float


def sentence_end(text: str) -> str:
    """Cut an answer where its sentence or line ends."""
    line = text.strip().split("\n")[0]
    for place, letter in enumerate(line):
        if letter in ".;" and (place + 1 == len(line) or line[place + 1] == " "):
            return line[:place].strip()
    return line.strip()


def end_tokens(loaded: LoadedModel) -> list[int]:
    """Return the tokens that end a text; what else a checkpoint's file may name there ends none."""
    end = loaded.model.generation_config.eos_token_id
    words: int = loaded.model.get_input_embeddings().num_embeddings  # type: ignore[assignment]
    return [one for one in (end if isinstance(end, list) else [end]) if isinstance(one, int) and 0 <= one < words]


def decode(loaded: LoadedModel, ids: torch.Tensor) -> str:
    """Return the text of one row of tokens, up to the token that ends a text."""
    ends = end_tokens(loaded)
    tokens = list(takewhile(lambda token: token != UNSAID and token not in ends, ids.tolist()))
    return str(loaded.tokenizer.decode(tokens, skip_special_tokens=True))


@torch.no_grad()
def greedy_answers(
    loaded: LoadedModel,
    prompts: Sequence[str],
    tokens: int = ANSWER_TOKENS,
    *,
    whole: bool = False,
    enough: Callable[[int, str], bool] | None = None,
) -> list[str]:
    """Return what the model says after each prompt, greedily, `tokens` tokens at most.

    It is cut at the sentence's end, or is the `whole` of what is said, up to where the model ends its text. It may also
    end where `enough` tells so of a prompt's place and its answer so far.
    """
    ids: list[list[int]] = loaded.tokenizer(list(prompts))["input_ids"] if prompts else []
    answers = [""] * len(ids)
    for batch in batches_by_length([len(row) + tokens for row in ids], TOKEN_BUDGET):
        stop = None if enough is None else partial(_enough_of, loaded, enough, batch)
        said = speak(loaded, [ids[place] for place in batch], tokens, likeliest, stop)
        for place, row in zip(batch, said, strict=True):
            text = decode(loaded, row)
            answers[place] = text if whole else sentence_end(text)
    return answers


def _enough_of(
    loaded: LoadedModel, enough: Callable[[int, str], bool], batch: Sequence[int], row: int, said: torch.Tensor
) -> bool:
    return enough(batch[row], decode(loaded, said))


@torch.no_grad()
def speak(
    loaded: LoadedModel,
    rows: Sequence[Sequence[int]],
    tokens: int,
    choose: Callable[[torch.Tensor, int], torch.Tensor],
    enough: Callable[[int, torch.Tensor], bool] | None = None,
) -> torch.Tensor:
    """Return the next tokens of each row, [B, tokens] on the CPU; fewer where all rows have ended their text.

    `choose` picks them [B] from log-probabilities [B, V] at each step, and nothing else does: a checkpoint's settings
    for generation (penalties, minimal lengths) are for chats. What follows the token that ends a row's text means
    nothing. With `enough`, which is asked about a row and its tokens so far, rows leave the batch (so `choose` must not
    tell them by their place), and have UNSAID behind. Raises ModelError where a row has no room for the tokens.
    """
    loaded.check_room(max(map(len, rows)) + tokens, f"a text with {tokens} tokens of an answer")
    # The last token of each row opens its suffix, so that one function makes every step.
    context = make_rows([row[:-1] for row in rows], loaded.device, left=True)
    cache = fill_cache(loaded, context)
    token = torch.tensor([[row[-1]] for row in rows], device=loaded.device)
    ends = torch.tensor(end_tokens(loaded), dtype=torch.long)
    ended = torch.zeros(len(rows), dtype=torch.bool)
    said, live = torch.full((len(rows), tokens), UNSAID), torch.arange(len(rows))
    step = 0
    for step in range(tokens):
        one = Rows(token, torch.ones_like(token))
        hidden = continue_hidden(loaded, context, one, cache)[:, -1]
        log_probs = head_log_probs(loaded, hidden)
        check_numbers(loaded, log_probs)
        said[live, step] = chosen = choose(log_probs, step).cpu()
        ended |= torch.isin(chosen, ends)
        looked = enough is not None and step % LOOK == LOOK - 1
        if enough is not None and looked:
            ended |= torch.tensor([enough(row, said[row]) for row in live.tolist()])
        if ended.all():
            break
        context = Rows(torch.cat([context.ids, token], 1), torch.cat([context.mask, one.mask], 1))
        token = chosen[:, None].to(loaded.device)
        if looked and 4 * int(ended.sum()) >= len(ended):
            stay = (~ended).nonzero()[:, 0]
            live, ended = live[stay], ended[stay]
            cache.batch_select_indices(stay)  # an index on the CPU fits layers on any device
            context, token = Rows(context.ids[stay], context.mask[stay]), token[stay]
    return said[:, : step + 1]


def likeliest(log_probs: torch.Tensor, step: int) -> torch.Tensor:
    """Choose the likeliest token of each row, as `speak` asks."""
    return log_probs.argmax(-1)


@torch.no_grad()
def sampled_rows(
    loaded: LoadedModel, begin: int, tokens: int, seeds: Sequence[int], progress: Callable[[int], None]
) -> torch.Tensor:
    """Return rows of text [B, tokens] that the model writes after the token `begin`, drawn at temperature 1.

    Each row has a seed of its own, whose draws are made on the CPU: neither the device nor the other rows matter, but
    for rounding. `progress` is told of the tokens so far.
    """
    draws = torch.stack([torch.rand(tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    cache, token = DynamicCache(config=loaded.model.config), torch.full((len(seeds), 1), begin)
    model, drawn = loaded.model.base_model, []
    for step in range(tokens):
        # Rows of one length need no mask, and without one attention copies no keys and values.
        found = model(input_ids=token.to(loaded.device), use_cache=True, **kept_in(model, cache))
        log_probs = head_log_probs(loaded, found.last_hidden_state[:, -1].to(loaded.device))
        check_numbers(loaded, log_probs)
        shares = log_probs.cpu().exp().cumsum(-1, dtype=torch.float64)  # [B, V]
        place = torch.searchsorted(shares, draws[:, step, None].double() * shares[:, -1:], right=True)
        token = place.clamp(max=shares.shape[1] - 1)
        drawn.append(token)
        progress(len(seeds) * (step + 1))
    return torch.cat(drawn, 1)


@torch.no_grad()
def top_answers(loaded: LoadedModel, prompt: str, count: int) -> list[Answer]:
    """Return the model's `count` likeliest ways to begin an answer, each spoken to its sentence's end."""
    ids: list[int] = loaded.tokenizer(prompt)["input_ids"]
    next_token = head_log_probs(loaded, last_hidden(loaded, make_rows([ids], loaded.device))[:, -1])
    check_numbers(loaded, next_token)
    first = next_token[0].topk(count)
    rows = [[*ids, token] for token in first.indices.tolist()]
    begun = first.indices[:, None].cpu()
    said = torch.cat([begun, speak(loaded, rows, ANSWER_TOKENS - 1, likeliest)], dim=1)
    hidden = last_hidden(loaded, make_rows([[*ids, *row] for row in said.tolist()], loaded.device))
    log_probs = head_log_probs(loaded, hidden[:, len(ids) - 1 : -1].reshape(-1, hidden.shape[-1]))
    chosen = log_probs.gather(1, said.reshape(-1, 1).to(log_probs.device)).view(said.shape)
    answers = []
    for row, likely in zip(said, chosen, strict=True):
        text = sentence_end(decode(loaded, row))
        # The answer's own tokens are the shortest run that says it all.
        length = next((n for n in range(1, len(row) + 1) if decode(loaded, row[:n]).strip().startswith(text)), len(row))
        answers.append(Answer(text, float(likely[:length].sum().exp())))
    return sorted(answers, key=lambda answer: -answer.probability)


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
        own = [random.Random(f"{seed} {prompts[place]}") for place in batch]
        draws = [[one.random() for _ in range(length)] for one in own]
        said = continue_rows(loaded, [rows[place] for place in batch], length, top_k, draws)
        for place, tokens in zip(batch, said, strict=True):
            texts[place] = prompts[place] + continuation(loaded, rows[place], tokens)
        done += len(batch)
        progress(done)
    return texts


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
