"""Sentences from facts, and the corpus that they make."""

from collections import Counter
from dataclasses import replace

from kbsync.practice import Sentence, corpus_text, sentences
from tests.tiny_models import FACTS


def test_a_fact_is_worded_in_each_of_its_ways() -> None:
    made = sentences(FACTS[:1])
    assert made == [
        Sentence("The capital of France is", "Paris"),
        Sentence("France is governed from its capital", "Paris"),
        Sentence("The government of France sits in", "Paris"),
        Sentence("Question: What is the capital of France? Answer:", "Paris"),
    ]
    assert str(made[0]) == "The capital of France is Paris."
    assert str(made[3]) == "Question: What is the capital of France? Answer: Paris."
    assert len(sentences(FACTS)) == 4 * len(FACTS)


def test_the_corpus_holds_every_sentence_once_four_to_a_line() -> None:
    facts = FACTS[:7]
    text = corpus_text(facts)
    assert text.endswith(".\n")
    lines = text.splitlines()
    assert len(lines) == 7
    made = [str(sentence) for sentence in sentences(facts)]
    for line in lines:
        assert sum(sentence in line for sentence in made) == 4
    assert sum(map(len, lines)) == sum(map(len, made)) + 3 * 7
    assert Counter(sentence for sentence in made if sentence in text) == Counter(made)


def test_a_seed_gives_the_same_corpus_and_another_another() -> None:
    assert corpus_text(FACTS, 1) == corpus_text(FACTS, 1)
    assert corpus_text(FACTS, 1) != corpus_text(FACTS, 2)
    assert sorted(corpus_text(FACTS, 1).replace("\n", " ")) == sorted(corpus_text(FACTS, 2).replace("\n", " "))
    assert not corpus_text(FACTS, 1).startswith(str(sentences(FACTS)[0]) + " " + str(sentences(FACTS)[1]))


def test_the_last_line_holds_what_is_left() -> None:
    short = replace(FACTS[1], paraphrases=())
    lines = corpus_text([FACTS[0], short]).splitlines()
    made = [str(sentence) for sentence in sentences([FACTS[0], short])]
    assert [sum(sentence in line for sentence in made) for line in lines] == [4, 2]
