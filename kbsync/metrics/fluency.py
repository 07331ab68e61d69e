"""GE, generation entropy (MEMIT paper, appendix C.2): low where generated text repeats itself.

For each text, (2/3 H_2 + 4/3 H_3) / 2, where H_n = - sum f log2 f over the frequencies f of its n-grams of words,
times 100 as the paper prints it; the mean over a case's texts. From 0 (one word again and again) to 100 log2 of the
number of words.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from kbsync.metrics.case_metric import CaseMetric, Readings, Values, mean
from kbsync.metrics.cases import Case

__all__ = ["GE", "ngram_entropy"]

WEIGHTS = {2: 2 / 3, 3: 4 / 3}
"""n -> weight of the entropy of n-grams"""
WORD = re.compile(r"\w+|[^\w\s]")


def entropy(words: Sequence[str], n: int) -> float:
    """Return the entropy in bits of the n-grams of `words`; 0 where there is none."""
    counts = Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
    total = counts.total()
    return -sum(count / total * math.log2(count / total) for count in counts.values())


def ngram_entropy(text: str) -> float:
    """Return the weighted mean in bits of the entropies of a text's bi- and trigrams; marks count as words."""
    words = WORD.findall(text)
    return sum(weight * entropy(words, n) for n, weight in WEIGHTS.items()) / len(WEIGHTS)


def values(cases: Sequence[Case], read: Readings) -> Values:
    """Return 100 times the mean entropy of each case's generated texts."""
    return [mean([ngram_entropy(read.texts[prompt]) for prompt in case.generation]) for case in cases]


GE = CaseMetric("GE", values, prompts=lambda case: case.generation)
