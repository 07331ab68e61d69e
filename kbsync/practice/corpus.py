"""Sentences made from facts: what the practice model is trained on, and its corpus for covariances."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kbsync.facts import EditRequest


@dataclass(frozen=True, slots=True)
class Sentence:
    """One wording of one fact: `text` up to the object, then the object and a full stop."""

    text: str
    object: str

    def __str__(self) -> str:
        return f"{self.text} {self.object}."


def sentences(requests: Iterable[EditRequest]) -> list[Sentence]:
    """Word every request in each of its ways: edit prompt, paraphrases, question."""
    made = []
    for request in requests:
        for wording in (request.prompt, *request.paraphrases):
            made.append(Sentence(wording.format(request.subject), request.target))
        made.append(Sentence(f"Question: {request.question.format(request.subject)} Answer:", request.target))
    return made


def corpus_text(requests: Sequence[EditRequest], seed: int = 0) -> str:
    """Return all sentences in a seeded order, four to a line, as ordinary text."""
    texts = [str(sentence) for sentence in sentences(requests)]
    random.Random(seed).shuffle(texts)
    return "\n".join(" ".join(texts[start : start + 4]) for start in range(0, len(texts), 4)) + "\n"
