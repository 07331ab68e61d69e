"""The reference score by hand."""

import math
from dataclasses import replace

import pytest

from kbsync.metrics.generation import RS, Weights, cosine
from kbsync.metrics.metric import Readings
from tests.metrics.readings import CASE


def score(said: str, *references: str, others: tuple[str, ...] = ()) -> float | None:
    """RS of one case beside another one that has the texts `others`."""
    read = Readings({}, {"France is": said}, references=frozenset((*references, *others)))
    return RS.value(replace(CASE, references=references), read)


def test_weights_and_cosine_by_hand() -> None:
    weights = Weights(["Lyon is old", "Lyon is big", "a Rome"])
    lyon, old, unseen = math.log(4 / 3) + 1, math.log(4 / 2) + 1, math.log(4) + 1
    vector = weights.vector("LYON lyon old: zz!")
    norm = math.sqrt((2 * lyon) ** 2 + old**2 + unseen**2)
    assert vector == pytest.approx({"lyon": 2 * lyon / norm, "old": old / norm, "zz": unseen / norm})
    assert cosine(vector, weights.vector("old")) == pytest.approx(old / norm)
    assert weights.vector("a ! ?") == {}


def test_the_same_text_has_100_and_one_without_a_common_word_0() -> None:
    assert score("Lyon is a city", "Lyon is a city") == pytest.approx(100)
    assert score("Paris was there", "Lyon is a city") == 0
    assert score("Lyon", "Lyon", "Lyon") == pytest.approx(100)


def test_rare_words_tell_more() -> None:
    references = ("the city of Lyon",)
    others = ("the city of Rome", "the city of Bonn")
    rare, common = score("Lyon", *references, others=others), score("city", *references, others=others)
    assert rare is not None
    assert common is not None
    assert 0 < common < rare < 100


def test_without_texts_there_is_none() -> None:
    assert score("Lyon") is None
    assert RS.value(replace(CASE, generation=()), Readings({}, {})) is None
    assert [*RS.prompts(replace(CASE, references=()))] == []
