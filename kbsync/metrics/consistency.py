"""RS, reference score (MEMIT paper, appendix C.2): how like texts about the new object the generated text is, 0 to 100.

The cosine of the TF-IDF vectors of a case's generated texts and of its reference texts, each joined to one. Weights are
count x (ln((1 + n) / (1 + n_w)) + 1), with n_w of the n distinct reference texts of all cases holding the word w; words
are of two letters or more, without case (all as scikit-learn's TfidfVectorizer has it, but that words which no
reference holds count too).
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from kbsync.metrics.case_metric import CaseMetric, Readings, Values
from kbsync.metrics.cases import Case

__all__ = ["RS", "Weights"]

WORD = re.compile(r"\w\w+")


def words(text: str) -> list[str]:
    """Return the words of a text."""
    return WORD.findall(text.lower())


class Weights:
    """How much a word tells, from the texts that hold it."""

    def __init__(self, texts: Collection[str]) -> None:
        self.size = len(texts)
        self.holding = Counter(word for text in texts for word in set(words(text)))

    def vector(self, text: str) -> dict[str, float]:
        """Return the TF-IDF vector of a text, of length 1; empty where it has no word."""
        raw = {
            word: count * (math.log((1 + self.size) / (1 + self.holding[word])) + 1)
            for word, count in Counter(words(text)).items()
        }
        norm = math.hypot(*raw.values())
        return {word: value / norm for word, value in raw.items()}


def cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Return the dot product of two vectors."""
    return sum(value * other.get(word, 0.0) for word, value in one.items())


def values(cases: Sequence[Case], read: Readings) -> Values:
    """Return 100 times the cosine of each case that has generated and reference texts."""
    weights = Weights({text for case in cases for text in case.references})
    found: Values = []
    for case in cases:
        if not case.references or not case.generation:
            found.append(None)
            continue
        said = " ".join(read.texts[prompt] for prompt in case.generation)
        found.append(100 * cosine(weights.vector(said), weights.vector(" ".join(case.references))))
    return found


RS = CaseMetric("RS", values, prompts=lambda case: case.generation if case.references else ())
