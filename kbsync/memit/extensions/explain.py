"""Where an edit stands or is lost: its target put in by hand, its weights at S alone, and the edited model.

The search finds a z that makes the model say the object: adding z - h at S by hand, with no weight changed, tells
whether it did. The keys carry z - h to S: the edited weights used at S alone tell whether they do. And what the same
weights do at the other tokens leaves the answer alone, or does not.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from kbsync.facts import EditRequest
from kbsync.memit.delta import edited, with_delta
from kbsync.memit.extensions.groups import RequestGroup
from kbsync.memit.keys import SubjectStates
from kbsync.models import LoadedModel, TokenizedPrompt, head_log_probs, last_hidden, locate, make_rows, replace, watch
from kbsync.models.generation import ANSWER_TOKENS, decode, sentence_end

Rows = Sequence[TokenizedPrompt]
Deltas = Mapping[int, torch.Tensor]
"""edited layer -> its change [d, m]"""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one way says to one wording."""

    recall: bool
    """every token of the object is the likeliest at its place"""
    answer: str
    """the object where it is recalled, else the greedy answer"""
    log_prob: float
    """mean log-probability of the object's tokens"""
    turns_at: str | None
    """the first token of the object that is not the likeliest at its place"""


@torch.no_grad()
def read_ways(
    loaded: LoadedModel, asked: Sequence[EditRequest], shift: torch.Tensor, deltas: Deltas, layer: int
) -> list[dict[str, Reading]]:
    """Return what four ways say to each request.

    They are the "base" model; the "target": z - h (`shift` [d]) added at S behind block `layer`; the edited weights at
    the "subject" (S) alone; and the edited "model".
    """
    rows = locate(loaded.tokenizer, [one.written() for one in asked])
    block = loaded.family.block_list(loaded.model)[layer]
    ways: dict[str, Callable[[Rows], AbstractContextManager[None]]] = {
        "base": lambda part: nullcontext(),
        "target": lambda part: added_at(block, part, lambda given: shift),
        "subject": lambda part: edited_at_subject(loaded, part, deltas),
        "model": lambda part: edited(loaded, deltas),
    }
    found = [read(loaded, rows, way) for way in ways.values()]
    return [dict(zip(ways, of_row, strict=True)) for of_row in zip(*found, strict=True)]


def read(loaded: LoadedModel, rows: Rows, way: Callable[[Rows], AbstractContextManager[None]]) -> list[Reading]:
    with way(rows):
        hidden = last_hidden(loaded, make_rows([one.ids[:-1] for one in rows], loaded.device))
    scored = []
    for one, states in zip(rows, hidden, strict=True):
        log_probs = head_log_probs(loaded, states[one.target_start - 1 : len(one.ids) - 1]).cpu()
        wanted = torch.tensor(one.target)
        wrong = wanted[log_probs.argmax(1) != wanted].tolist()
        scored.append((float(log_probs.gather(1, wanted[:, None]).mean()), wrong[:1]))
    missed = [one for one, (_, wrong) in zip(rows, scored, strict=True) if wrong]
    with way(missed):
        said = iter(greedy(loaded, missed) if missed else [])
    return [
        Reading(False, next(said), log_prob, str(loaded.tokenizer.decode(wrong)))
        if wrong
        else Reading(True, decode(loaded, torch.tensor(one.target)).strip(), log_prob, None)
        for one, (log_prob, wrong) in zip(rows, scored, strict=True)
    ]


def greedy(loaded: LoadedModel, rows: Rows) -> list[str]:
    """Return the answer to each row's prompt; each step runs whole rows, so that what is done at S is done again."""
    texts = [list(one.ids[: one.target_start]) for one in rows]
    for _ in range(ANSWER_TOKENS):
        hidden = last_hidden(loaded, make_rows(texts, loaded.device))
        ends = torch.stack([states[len(text) - 1] for states, text in zip(hidden, texts, strict=True)])
        for text, token in zip(texts, head_log_probs(loaded, ends).argmax(1).tolist(), strict=True):
            text.append(token)
        said = [decode(loaded, torch.tensor(text[one.target_start :])) for one, text in zip(rows, texts, strict=True)]
        if all(sentence_end(text) != text.strip() for text in said):
            break
    return [sentence_end(text) for text in said]


@contextmanager
def added_at(module: nn.Module, rows: Rows, added: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Add, at S of right-padded rows, what `added` makes of a module's input there [B, m] to its output."""
    at = list(range(len(rows))), [one.subject_last for one in rows]
    given: list[torch.Tensor] = []

    def by_row(flat: torch.Tensor) -> torch.Tensor:
        return flat.view(len(rows), -1, flat.shape[-1])  # OPT's MLP takes and gives its rows flat

    def see(entering: torch.Tensor) -> None:
        given[:] = [by_row(entering)[at].float()]

    def change(output: torch.Tensor) -> torch.Tensor:
        changed = by_row(output.clone())
        changed[at] += added(given[0]).to(changed)
        return changed.view(output.shape)

    with watch(module, see), replace(module, change):
        yield


@contextmanager
def edited_at_subject(loaded: LoadedModel, rows: Rows, deltas: Deltas) -> Iterator[None]:
    """Let the edited weights (base plus delta, cast once) act at S of right-padded rows, the base's elsewhere."""
    with ExitStack() as stack:
        for layer, delta in deltas.items():
            base = loaded.weight(layer)
            change = with_delta(base, delta).to(base.dtype).float() - base.float()
            down = loaded.family.down_projection(loaded.model, layer)
            stack.enter_context(added_at(down, rows, lambda keys, change=change: keys @ change.T.to(keys.device)))  # type: ignore[misc]
        yield


@torch.no_grad()
def at_subject(loaded: LoadedModel, asked: Sequence[EditRequest], layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the present keys [n, m] and h [n, d] of `layer` at S of each request, in float64 on the CPU."""
    states = SubjectStates(loaded, [RequestGroup((one,)) for one in asked], ("{}",))
    if layer:
        states.advance(0, layer - 1)
    keys, hidden = states.keys_and_hidden(layer, layer)
    return keys.T.cpu(), hidden.T.cpu()


def delivered(
    loaded: LoadedModel, asked: Sequence[EditRequest], shift: torch.Tensor, deltas: Deltas, layer: int
) -> list[dict[int, float]]:
    """Return for each request the share of z - h (`shift`) at S that each edited layer brings to block `layer`.

    It is what h moves along `shift` once that layer is edited too, those below it being so already: a request's shares
    add up to what arrives, 1 being all.
    """
    along = shift.double() / shift.double().dot(shift.double())
    arrived = [at_subject(loaded, asked, layer)[1] @ along]
    for last in sorted(deltas):
        with edited(loaded, {one: change for one, change in deltas.items() if one <= last}):
            arrived.append(at_subject(loaded, asked, layer)[1] @ along)
    return [dict(zip(sorted(deltas), shares, strict=True)) for shares in torch.stack(arrived, 1).diff().tolist()]
