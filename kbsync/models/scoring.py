"""How likely a model finds targets after their prompts: each text is run once, whatever is asked of it.

Questions as a chat model gets them: in its tokenizer's chat template, the answer after the assistant's header.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from kbsync.errors import ModelError, foreign
from kbsync.models.forward import (
    Rows,
    batches_by_length,
    continue_hidden,
    fill_cache,
    head_log_probs,
    last_hidden,
    make_rows,
)
from kbsync.models.loaded import LoadedModel
from kbsync.models.subject import locate

TOKEN_BUDGET = 8192

AskedRow = tuple[Sequence[int], int]
"""tokens of a text, and the position of its target's first"""


@dataclass(frozen=True, slots=True)
class TargetScore:
    """How a model takes to a target."""

    log_prob: float
    """mean log-probability of the target's tokens"""
    exact: bool
    """every token is the likeliest at its place (recall)"""
    accuracy: float
    """share of the tokens that are the likeliest at their places, given those before them"""


def score_targets(
    loaded: LoadedModel, triples: Sequence[tuple[str, str, str]], progress: Callable[[int], None] = lambda done: None
) -> list[TargetScore]:
    """Score (template, subject, target) triples; candidates of one prompt share its forward pass (see `score_rows`)."""
    placed = locate(loaded.tokenizer, triples)
    return score_rows(loaded, [(tokens.ids, tokens.target_start) for tokens in placed], progress)


@torch.no_grad()
def score_rows(
    loaded: LoadedModel, rows: Sequence[AskedRow], progress: Callable[[int], None] = lambda done: None
) -> list[TargetScore]:
    """Score the end of each (tokens, position of the target's first) in batches.

    A row is run without its last token. One that begins another one, or equals it, is read off that one, so that
    candidates of one token each take one run together; others run what stands before them once. Logits are made once
    at each position where a target token is read, and there alone.
    """
    scores: list[TargetScore] = [TargetScore(0.0, False, 0.0)] * len(rows)
    readers = readers_by_row([tuple(ids[:-1]) for ids, _ in rows])
    parted: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for row, places in readers.items():
        # The last token before a target is where its first is read, so it is run with the target.
        parted.setdefault(row[: min(rows[place][1] for place in places) - 1], []).append(row)
    alone = [((), [row]) for before, after in parted.items() if not before or len(after) == 1 for row in after]
    shared = [
        (before, after[start : start + most])
        for before, after in parted.items()
        if before and len(after) > 1
        for most in [max(1, TOKEN_BUDGET // max(map(len, after)))]
        for start in range(0, len(after), most)
    ]
    done = 0
    for group in (alone, shared):
        for batch in batches_by_length([sum(map(len, after)) for _, after in group], TOKEN_BUDGET):
            hidden = run_parted(loaded, [group[place] for place in batch])
            run = [(len(before), row) for before, after in (group[place] for place in batch) for row in after]
            asked = [(line, skip, reader) for line, (skip, row) in enumerate(run) for reader in readers[row]]
            texts = [(line, rows[reader][0][skip:], rows[reader][1] - skip) for line, skip, reader in asked]
            for (*_, reader), score in zip(asked, read_off(loaded, hidden, texts), strict=True):
                scores[reader] = score
            done += len(asked)
            progress(done)
    return scores


def run_parted(loaded: LoadedModel, parted: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]]) -> torch.Tensor:
    """Return the final hidden states [B, T, d] of rows behind the beginning that each (beginning, its rows) shares.

    The beginning is run once; all have one, or none has.
    """
    rest = make_rows([row[len(before) :] for before, rows in parted for row in rows], loaded.device)
    if not parted[0][0]:
        return last_hidden(loaded, rest)
    context = make_rows([before for before, _ in parted], loaded.device, left=True)
    cache = fill_cache(loaded, context)
    # On the CPU, as the cache of a model on several devices has its layers on each of them.
    owner = torch.tensor([place for place, (_, rows) in enumerate(parted) for _ in rows])
    cache.batch_select_indices(owner)
    return continue_hidden(loaded, Rows(context.ids[owner], context.mask[owner]), rest, cache)


def readers_by_row(rows: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], list[int]]:
    """Return each row that begins no other one, with the places of all rows that equal it or begin it."""
    found: dict[tuple[int, ...], list[int]] = {}
    held: tuple[int, ...] | None = None
    # In this order a row that begins others comes right after one of them.
    for place in sorted(range(len(rows)), key=lambda place: rows[place], reverse=True):
        if held is None or held[: len(rows[place])] != rows[place]:
            held = rows[place]
        found.setdefault(held, []).append(place)
    return found


def read_off(
    loaded: LoadedModel, hidden: torch.Tensor, asked: Sequence[tuple[int, Sequence[int], int]]
) -> list[TargetScore]:
    """Score each (line of `hidden` [B, T, d], tokens, position of the target's first)."""
    places: dict[tuple[int, int], int] = {}
    reads = [
        (index, places.setdefault((line, position - 1), len(places)), ids[position])
        for index, (line, ids, start) in enumerate(asked)
        for position in range(start, len(ids))
    ]
    lines, positions = (torch.tensor(column, device=hidden.device) for column in zip(*places, strict=True))
    log_probs = head_log_probs(loaded, hidden[lines, positions])
    owner, place, token = (torch.tensor(column, device=log_probs.device) for column in zip(*reads, strict=True))
    counts = torch.bincount(owner, minlength=len(asked))
    sums = torch.zeros(len(asked), device=log_probs.device).index_add(0, owner, log_probs[place, token])
    right = torch.bincount(owner[log_probs.argmax(-1)[place] == token], minlength=len(asked))
    columns = (sums / counts).tolist(), (right == counts).tolist(), (right / counts).tolist()
    return [TargetScore(*figures) for figures in zip(*columns, strict=True)]


def require_chat_template(loaded: LoadedModel) -> None:
    """Raise ModelError where the model's tokenizer has no chat template, or one that cannot be used."""
    if not loaded.tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer of {loaded.source} has no chat template: leave out --chat, or name a chat model"
        )
    with foreign(lambda reason: ModelError(f"the chat template of {loaded.source} cannot be used: {reason}")):
        render(loaded.tokenizer, "?")


def render(tokenizer: PreTrainedTokenizerBase, question: str, answer: str | None = None) -> str:
    """Return the chat's text up to where the answer begins or, with `answer`, the whole of it."""
    turns = [{"role": "user", "content": question}]
    if answer is not None:
        turns.append({"role": "assistant", "content": answer})
    text = tokenizer.apply_chat_template(
        turns,
        tokenize=False,
        add_generation_prompt=answer is None,
        enable_thinking=False,  # some would have the model think first; templates that know no such thing leave it be
    )
    assert isinstance(text, str)
    return text


def question_prompt(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """Return a question form as the prompt that the answer follows: in the chat template where there is one.

    The ``{}`` for the subject stays. A template that cannot be used, or writes braces of its own, leaves the question
    as it is.
    """
    if not tokenizer.chat_template:
        return question
    try:
        with foreign(ModelError):
            text = render(tokenizer, question)
    except ModelError:
        return question
    # The tokenizer puts its begin token before every text, so the template's own would be a second one.
    begin = tokenizer.bos_token_id
    if begin is not None and tokenizer("x")["input_ids"][0] == begin:
        text = text.removeprefix(str(tokenizer.bos_token))
    return text if text.count("{}") == 1 else question


def chat_rows(tokenizer: PreTrainedTokenizerBase, asked: Sequence[tuple[str, str]]) -> list[AskedRow]:
    """Tokenize (question, answer) pairs, the answer being the target.

    The chat up to the answer keeps the tokens that it has alone, as a chat begins with just those. A template writes
    its special tokens itself, so the tokenizer adds none. Between header and answer stands what the template puts
    there, a space or nothing.
    """
    rows: list[AskedRow] = []
    for question, answer in asked:
        before = render(tokenizer, question)
        whole = render(tokenizer, question, answer)
        between, found, _ = whole[len(before) :].partition(answer)
        # A template that words past turns otherwise than the present one tells nothing: the answer follows at once.
        space = between if whole.startswith(before) and found and not between.strip() else ""
        head = tuple(tokenizer(before, add_special_tokens=False)["input_ids"])
        spoken = tuple(tokenizer(before + space + answer, add_special_tokens=False)["input_ids"])
        if spoken[: len(head)] != head:  # the answer's first letters grew together with the header
            spoken = head + tuple(tokenizer(space + answer, add_special_tokens=False)["input_ids"])
        rows.append((spoken, len(head)))
    return rows


def score_chat(
    loaded: LoadedModel, asked: Sequence[tuple[str, str]], progress: Callable[[int], None] = lambda done: None
) -> list[TargetScore]:
    """Score (question, answer) pairs, each asked in the tokenizer's chat template."""
    return score_rows(loaded, chat_rows(loaded.tokenizer, asked), progress)
