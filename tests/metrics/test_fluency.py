"""Generation entropy by hand."""

import math

import pytest

from kbsync.metrics.generation import GE, ngram_entropy
from tests.metrics.readings import CASE, readings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.0),
        ("one", 0.0),
        ("la la la la la la", 0.0),
        # a b a b a: bigrams ab, ba twice each; trigrams aba twice, bab once.
        ("a b a b a", (2 / 3 * 1 + 4 / 3 * (2 / 3 * math.log2(1.5) + 1 / 3 * math.log2(3))) / 2),
        # Five words, all n-grams distinct; the full stop is one of them.
        ("Lyon is a city.", (2 / 3 * math.log2(4) + 4 / 3 * math.log2(3)) / 2),
    ],
)
def test_entropy(text: str, expected: float) -> None:
    assert ngram_entropy(text) == pytest.approx(expected)


@pytest.mark.parametrize("count", [4, 10, 90])
def test_it_is_at_most_the_entropy_of_distinct_words(count: int) -> None:
    distinct = ngram_entropy(" ".join(map(str, range(100, 100 + count))))
    assert distinct == pytest.approx((2 / 3 * math.log2(count - 1) + 4 / 3 * math.log2(count - 2)) / 2)
    assert ngram_entropy(" ".join(str(place % 2) for place in range(count))) < distinct


def test_a_cases_figure_is_in_hundredths_of_a_bit() -> None:
    read = readings()
    assert GE.value(CASE, read) == pytest.approx(100 * ngram_entropy("France is near Lyon"))
