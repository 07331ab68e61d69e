"""How likely a model finds targets after their prompts: each text is run once, whatever is asked of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from kbsync.models.forward import batches_by_length, head_log_probs, last_hidden, make_rows
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
    candidates of one token each take one run together. Logits are made once at each position where a target token is
    read, and there alone.
    """
    scores: list[TargetScore] = [TargetScore(0.0, False, 0.0)] * len(rows)
    readers = readers_by_row([tuple(ids[:-1]) for ids, _ in rows])
    run = list(readers)
    done = 0
    for batch in batches_by_length([len(ids) for ids in run], TOKEN_BUDGET):
        hidden = last_hidden(loaded, make_rows([run[place] for place in batch], loaded.device))
        asked = [(line, reader) for line, place in enumerate(batch) for reader in readers[run[place]]]
        found = read_off(loaded, hidden, [(line, *rows[reader]) for line, reader in asked])
        for (_, reader), score in zip(asked, found, strict=True):
            scores[reader] = score
        done += len(asked)
        progress(done)
    return scores


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
