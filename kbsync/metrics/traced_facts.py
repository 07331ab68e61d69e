"""Facts as a causal trace sees them: tokens, where the subject lies, and which group each token of the prompt is in."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kbsync.facts import EditRequest
from kbsync.models import LoadedModel, locate

__all__ = ["GROUPS", "LAST_SUBJECT", "TracedFact", "embedding_noise", "place_facts", "subject_sigma"]

LAST_SUBJECT = "last subject token"
GROUPS = (
    "first subject token",
    "middle subject tokens",
    LAST_SUBJECT,
    "first token after",
    "middle tokens",
    "last token",
)
"""rows of the paper's heat maps; a token is in one of them: a subject's only token is its last, and where the prompt
ends with the subject or one token behind it, that is the last subject token, or the last token"""


@dataclass(frozen=True, slots=True)
class TracedFact:
    """A fact that the model knows; positions count from 0."""

    fact: EditRequest
    ids: tuple[int, ...]
    """tokens of prompt and object, without the object's last one, which nothing is read behind"""
    begin: int
    """position of the subject's first token"""
    last: int
    """position of the subject's last token, S"""
    end: int
    """position of the prompt's last token, where the object's first is read"""
    target: tuple[int, ...]
    """the object's tokens"""

    def places(self) -> list[tuple[int, str]]:
        """Return the positions from the subject's first token to the prompt's last, with the group of each."""
        return [(position, self.group(position)) for position in range(self.begin, self.end + 1)]

    def group(self, position: int) -> str:
        """Return which of `GROUPS` a position is in."""
        if position == self.last:
            return LAST_SUBJECT
        if position < self.last:
            return GROUPS[0] if position == self.begin else GROUPS[1]
        if position == self.end:
            return GROUPS[5]
        return GROUPS[3] if position == self.last + 1 else GROUPS[4]


def place_facts(loaded: LoadedModel, facts: Sequence[EditRequest]) -> list[TracedFact]:
    """Return facts with their tokens; raise EditError where the tokenizer leaves a subject or object without one."""
    placed = locate(loaded.tokenizer, [(fact.prompt, fact.subject, fact.target) for fact in facts])
    # The same text, with the subject's first letter in the subject's place.
    begun = [(f"{{}}{fact.subject[1:]}".join(fact.prompt.split("{}", 1)), fact.subject[0]) for fact in facts]
    first = locate(loaded.tokenizer, [(*text, fact.target) for text, fact in zip(begun, facts, strict=True)])
    return [
        TracedFact(fact, one.ids[:-1], start.subject_last, one.subject_last, one.target_start - 1, one.target)
        for fact, one, start in zip(facts, placed, first, strict=True)
    ]


@torch.no_grad()
def subject_sigma(loaded: LoadedModel, facts: Sequence[TracedFact]) -> float:
    """Return the standard deviation of the embeddings of all subjects' tokens, all dimensions together."""
    tokens = [token for fact in facts for token in fact.ids[fact.begin : fact.last + 1]]
    embedded: torch.Tensor = loaded.model.get_input_embeddings()(torch.tensor([tokens], device=loaded.device))
    return float(embedded.float().std())


def embedding_noise(fact: TracedFact, samples: int, width: int, seed: int) -> torch.Tensor:
    """Return standard normal noise [samples, subject tokens, width] in float32.

    It is drawn on the CPU and depends on the seed and the fact alone: not on the device, nor on which other facts are
    traced with it.
    """
    digest = hashlib.sha256(f"{seed} {fact.fact.id}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
    return torch.randn(samples, fact.last - fact.begin + 1, width, generator=generator)
