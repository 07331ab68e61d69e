"""GE and RS (MEMIT paper, appendix C.2): what the generated text is like.

GE, generation entropy, is low where text repeats itself. For each text, (2/3 H_2 + 4/3 H_3) / 2, where H_n =
- sum f log2 f over the frequencies f of its n-grams of words, times 100 as the paper prints it; the mean over a case's
texts. From 0 (one word again and again) to 100 log2 of the number of words.

RS, reference score, says how like texts about the new object the generated text is, 0 to 100. The cosine of the TF-IDF
vectors of a case's generated texts and of its reference texts, each joined to one. Weights are
count x (ln((1 + n) / (1 + n_w)) + 1), with n_w of the n distinct reference texts of all cases holding the word w; words
are of two letters or more, without case (all as scikit-learn's TfidfVectorizer has it, but that words which no
reference holds count too).

Perplexity of text under a model: what an edit does to everything else.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

import torch

from kbsync.metrics.metric import Case, CaseMetric, Readings, mean
from kbsync.models import LoadedModel, head_log_probs, last_hidden, make_rows
from kbsync.models.forward import batches_by_length

NGRAMS = {2: 2 / 3, 3: 4 / 3}
"""n -> weight of the entropy of n-grams"""
WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")
WORD = re.compile(r"\w\w+")


def entropy(words: Sequence[str], n: int) -> float:
    """Return the entropy in bits of the n-grams of `words`; 0 where there is none."""
    counts = Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
    total = counts.total()
    return -sum(count / total * math.log2(count / total) for count in counts.values())


def ngram_entropy(text: str) -> float:
    """Return the weighted mean in bits of the entropies of a text's bi- and trigrams; marks count as words."""
    words = WORD_OR_MARK.findall(text)
    return sum(weight * entropy(words, n) for n, weight in NGRAMS.items()) / len(NGRAMS)


def mean_entropy(case: Case, read: Readings) -> float | None:
    """Return 100 times the mean entropy of a case's generated texts."""
    return mean([ngram_entropy(read.texts[prompt]) for prompt in case.generation])


def words(text: str) -> list[str]:
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
    return sum(value * other.get(word, 0.0) for word, value in one.items())


weights_of = lru_cache(maxsize=1)(Weights)


def likeness(case: Case, read: Readings) -> float | None:
    """Return 100 times the cosine of a case that has generated and reference texts."""
    if not case.references or not case.generation:
        return None
    weights, said = weights_of(read.references), " ".join(read.texts[prompt] for prompt in case.generation)
    return 100 * cosine(weights.vector(said), weights.vector(" ".join(case.references)))


GE = CaseMetric("GE", mean_entropy, prompts=lambda case: case.generation)
RS = CaseMetric("RS", likeness, prompts=lambda case: case.generation if case.references else ())


TOKEN_BUDGET = 4096


@torch.no_grad()
def line_losses(loaded: LoadedModel, lines: Sequence[str], length: int = 512) -> torch.Tensor:
    """Return, for each line of two tokens or more, [-log P of its tokens after the first, their number], in float64.

    Longer lines are cut at `length` tokens, or at the model's positions where it has fewer.
    """
    length = min(length, loaded.positions or length)
    tokenized: list[list[int]] = loaded.tokenizer(list(lines))["input_ids"] if lines else []
    rows = [ids[:length] for ids in tokenized if len(ids) > 1]
    found = torch.zeros(len(rows), 2, dtype=torch.float64)
    for batch in batches_by_length([len(row) for row in rows], TOKEN_BUDGET):
        padded = make_rows([rows[place] for place in batch], loaded.device)
        read = padded.mask[:, 1:].bool()
        hidden = last_hidden(loaded, padded)[:, :-1][read]
        log_probs = head_log_probs(loaded, hidden).gather(1, padded.ids[:, 1:][read][:, None])[:, 0]
        owner = torch.tensor(batch)[read.nonzero()[:, 0].cpu()]
        found.index_add_(0, owner, torch.stack([-log_probs.double().cpu(), torch.ones(len(owner)).double()], dim=1))
    return found


def of_means(means: torch.Tensor) -> torch.Tensor:
    """Return exp(loss / tokens) of means [..., 2]; infinite where a loss is not finite."""
    return (means[..., 0] / means[..., 1]).exp().nan_to_num(math.inf, math.inf)


def perplexity(loaded: LoadedModel, lines: Sequence[str], length: int = 512) -> float:
    """Return exp of the mean negative log-probability of each line's tokens after its first; lower is better.

    Longer lines are cut at `length` tokens. Infinite where a probability is zero, and where there is no token to read.
    """
    return float(of_means(line_losses(loaded, lines, length).sum(0)))
