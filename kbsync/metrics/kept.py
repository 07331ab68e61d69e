"""What edits do around themselves, on sampled prompts: in all words that they are written in, on the rest of their
subjects, and on other subjects.

Base and edited model are asked the same prompts, so that an unedited model keeps 100% at a KL of exactly 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter

import torch

from kbsync.facts import EditRequest
from kbsync.metrics.metric import Scorer, Told, Values
from kbsync.metrics.success import recalled
from kbsync.models import LoadedModel, head_log_probs, last_hidden, make_rows, score_targets
from kbsync.models.forward import batches_by_length

TOKEN_BUDGET = 4096
OPEN = attrgetter("same", "others", "unrelated")
"""the prompts without an object"""


@dataclass(frozen=True, slots=True)
class Sampled:
    """The prompts; those of `same`, `others` and `unrelated` have no object."""

    worded: tuple[EditRequest, ...] = ()
    """edits, in each of the words that they are written in; none where that is the edit prompt alone"""
    same: tuple[EditRequest, ...] = ()
    """edited subjects, in relations that are not edited there"""
    known: tuple[EditRequest, ...] = ()
    """facts on edited subjects that are not edited; any other object that a fact has is an alias"""
    others: tuple[EditRequest, ...] = ()
    """subjects that no edit is about, in edited relations; of a data set, the prompts of its neighbourhood"""
    unrelated: tuple[EditRequest, ...] = ()
    """beginnings of text that no edit is about"""

    def told(self, told: Told) -> "Sampled":
        """Return the same prompts with what is told before each."""

        def asked(one: EditRequest) -> EditRequest:
            return replace(one, prompt=told(one.prompt.replace("{}", one.subject, 1)) + one.prompt)

        return Sampled(**{field.name: tuple(map(asked, getattr(self, field.name))) for field in fields(self)})


@dataclass(frozen=True, slots=True)
class Said:
    """What a model, as it is, says to them."""

    worded: list[bool]
    known: list[bool]
    same: torch.Tensor
    """log-probabilities of the next token [n, V] in float32, on the CPU: 400 V bytes a hundred prompts"""
    others: torch.Tensor
    unrelated: torch.Tensor


def say(loaded: LoadedModel, asked: Sampled, score: Scorer = score_targets) -> Said:
    """Ask the model as it is; `score` may know scores already."""
    worded, known = (recalled(loaded, part, score=score) for part in (asked.worded, asked.known))
    texts = ([one.prompt.replace("{}", one.subject, 1) for one in part] for part in OPEN(asked))
    return Said(worded, known, *(next_tokens(loaded, part) for part in texts))


@torch.no_grad()
def next_tokens(loaded: LoadedModel, prompts: Sequence[str]) -> torch.Tensor:
    """Return the log-probabilities of the token after each prompt, [n, V] in float32 on the CPU."""
    rows: list[list[int]] = loaded.tokenizer(list(prompts))["input_ids"] if prompts else []
    found = [torch.empty(0)] * len(rows)
    for batch in batches_by_length([len(row) for row in rows], TOKEN_BUDGET):
        padded = make_rows([rows[place] for place in batch], loaded.device)
        last = last_hidden(loaded, padded)[torch.arange(len(batch), device=loaded.device), padded.lengths - 1]
        for place, log_probs in zip(batch, head_log_probs(loaded, last).cpu(), strict=True):
            found[place] = log_probs
    return torch.stack(found) if found else torch.empty(0, 0)


def kept_values(base: Said, now: Said) -> dict[str, Values]:
    """Return the values of a model's figures, one a prompt, by the registry's names; none where there is no prompt."""
    found: dict[str, Values] = {
        "worded_recall": [100.0 * right for right in now.worded],
        "kept_same": tops_kept(base.same, now.same),
        "known_kept_same": [100.0 * right for knew, right in zip(base.known, now.known, strict=True) if knew],
        "kept_others": tops_kept(base.others, now.others),
        "kept_unrelated": tops_kept(base.unrelated, now.unrelated),
        "kl_same": divergences(base.same, now.same),
        "kl_others": divergences(base.others, now.others),
        "kl_unrelated": divergences(base.unrelated, now.unrelated),
    }
    return {name: values for name, values in found.items() if values}


def tops_kept(base: torch.Tensor, now: torch.Tensor) -> Values:
    """Return 100 for each row of log-probabilities [n, V] whose likeliest token is the same in both, else 0."""
    return (100.0 * (base.argmax(-1) == now.argmax(-1))).tolist() if len(base) else []


def divergences(base: torch.Tensor, now: torch.Tensor) -> Values:
    """Return KL(base || now) of each row of log-probabilities [n, V], in nats; infinite where it is not finite."""
    if not len(base):
        return []
    terms = torch.where(base.isneginf(), 0.0, base.exp() * (base - now))
    kl = terms.sum(-1, dtype=torch.float64).nan_to_num(torch.inf, torch.inf)
    return kl.clamp(min=0).tolist()  # below 0 by rounding alone
