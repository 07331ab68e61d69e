"""Answers against plain loops: one prompt at a time, the whole forward, no cache and no padding."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from kbsync.errors import ModelError
from kbsync.models import LoadedModel, greedy_answers, last_hidden, make_rows, sampled_rows, top_answers
from kbsync.models.generation import sentence_end
from tests.models.plain import next_log_probs
from tests.tiny_models import CAPITALS, set_to

PROMPTS = ["The capital of France is", "Peru", "In 1987 the government of Saint Lucia sat in", "x"]


def plain_continuation(loaded: LoadedModel, ids: list[int], tokens: int, end: int = -1) -> list[int]:
    said: list[int] = []
    while len(said) < tokens:
        token = int(next_log_probs(loaded, ids + said)[-1].argmax())
        if token in (loaded.tokenizer.eos_token_id, end):
            break
        said.append(token)
    return said


def test_greedy_answers_equal_a_plain_loop(tiny: LoadedModel) -> None:
    expected = []
    for prompt in PROMPTS:
        said = plain_continuation(tiny, tiny.tokenizer(prompt)["input_ids"], 6)
        expected.append(sentence_end(str(tiny.tokenizer.decode(said))))
    assert greedy_answers(tiny, PROMPTS, 6) == expected
    assert len(set(expected)) == len(expected)
    assert greedy_answers(tiny, []) == []


def test_an_answer_may_end_where_enough_is_said_and_the_others_go_on(tiny: LoadedModel) -> None:
    whole = greedy_answers(tiny, PROMPTS, 14, whole=True)
    asked: list[int] = []

    def enough(place: int, said: str) -> bool:
        asked.append(place)
        return place in (0, 2)

    short = greedy_answers(tiny, PROMPTS, 14, whole=True, enough=enough)
    assert all(len(short[n]) < len(whole[n]) and whole[n].startswith(short[n].rstrip("\ufffd")) for n in (0, 2))
    assert (short[1], short[3]) == (whole[1], whole[3])
    assert Counter(asked) == {0: 1, 1: 3, 2: 1, 3: 3}


def test_a_checkpoints_settings_for_generation_change_no_answer(
    known: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [f"The capital of {country} is" for country in ("Peru", "Nepal")]
    expected = greedy_answers(known, asked), top_answers(known, asked[0], 3)
    for name, value in {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "min_new_tokens": 12}.items():
        monkeypatch.setattr(known.model.generation_config, name, value)
    monkeypatch.setattr(known.model.generation_config, "suppress_tokens", known.tokenizer(" Lima")["input_ids"])
    assert (greedy_answers(known, asked), top_answers(known, asked[0], 3)) == expected


@pytest.mark.parametrize("say", [greedy_answers, lambda loaded, prompts: top_answers(loaded, prompts[0], 2)])
def test_a_prompt_longer_than_the_models_positions_is_told(
    known: LoadedModel, say: Callable[[LoadedModel, list[str]], object]
) -> None:
    room = known.positions
    assert room is not None
    with pytest.raises(ModelError, match=f"takes at most {room:,}: shorten it"):
        say(known, ["x " * (room + 9)])


def test_greedy_answers_end_with_their_sentence(known: LoadedModel) -> None:
    asked = [f"The capital of {country} is" for country in CAPITALS]
    assert greedy_answers(known, asked) == list(CAPITALS.values())


@contextmanager
def ending_after(loaded: LoadedModel, ids: list[int], end: int) -> Iterator[None]:
    """Let the model say `end`, one of several tokens that end a text, after these tokens, and there alone."""
    head, generation = loaded.model.lm_head, loaded.model.generation_config
    here = last_hidden(loaded, make_rows([ids], loaded.device))[0, -1]
    best = float(loaded.model(torch.tensor([ids])).logits[0, -1].max())
    weight, bias, before = head.weight.data.clone(), head.bias.data.clone(), generation.eos_token_id
    weight[end], bias[end] = 10 * here, best + 1 - 10 * here.dot(here)
    with set_to(head.weight, weight), set_to(head.bias, bias):
        generation.eos_token_id = sorted({before, end})
        try:
            yield
        finally:
            generation.eos_token_id = before


@pytest.mark.parametrize("end", ["<|endoftext|>", "z"])
def test_an_answer_ends_where_the_model_ends_its_text(known: LoadedModel, end: str) -> None:
    prompt, other = "The capital of Nepal is", "The capital of Peru is"
    ids, ended = known.tokenizer(prompt)["input_ids"], known.tokenizer.get_vocab()[end]
    first = plain_continuation(known, ids, 1)[0]
    whole = greedy_answers(known, [prompt])[0]
    with ending_after(known, [*ids, first], ended):
        assert plain_continuation(known, ids, 9, ended) == [first]
        short = greedy_answers(known, [prompt, other])
        alone = greedy_answers(known, [prompt])
        top = top_answers(known, prompt, 1)[0]
        likely = float(next_log_probs(known, ids)[-1, first].exp())
    assert short == [str(known.tokenizer.decode([first])).strip(), CAPITALS["Peru"]]
    assert alone == short[:1]
    assert whole.startswith(short[0])
    assert whole != short[0]
    assert top.text == short[0]
    assert top.probability == pytest.approx(likely, abs=1e-5)


def test_top_answers_have_the_product_of_their_tokens(known: LoadedModel) -> None:
    prompt = "The capital of Nepal is"
    ids = known.tokenizer(prompt)["input_ids"]
    answers = top_answers(known, prompt, 5)
    expected = []
    for first in next_log_probs(known, ids)[-1].topk(5).indices.tolist():
        said = [first, *plain_continuation(known, [*ids, first], 11)]
        text = sentence_end(str(known.tokenizer.decode(said)))
        own = 1
        while not str(known.tokenizer.decode(said[:own])).strip().startswith(text):
            own += 1
        log_probs = next_log_probs(known, ids + said[:own])
        product = sum(float(log_probs[len(ids) - 1 + place, said[place]]) for place in range(own))
        expected.append((math.exp(product), text))
    expected.sort(reverse=True)
    assert [answer.text for answer in answers] == [text for _, text in expected]
    assert [answer.probability for answer in answers] == pytest.approx([likely for likely, _ in expected], rel=1e-3)
    assert answers[0].text == "Kathmandu"
    assert len(known.tokenizer(" Kathmandu")["input_ids"]) > 1
    probabilities = [answer.probability for answer in answers]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0.5 < sum(probabilities) <= 1


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (" Paris. The capital", "Paris"),
        (" Paris.", "Paris"),
        (" Paris", "Paris"),
        (" Paris\nThe capital", "Paris"),
        ("\n\n Paris and\nmore", "Paris and"),
        (" Paris; it is", "Paris"),
        (" 3.5 million people. And", "3.5 million people"),
        (" kbsync.org is. It", "kbsync.org is"),
        ("", ""),
        (" \n ", ""),
        (".", ""),
        (" Saint-Étienne . x", "Saint-Étienne"),
    ],
)
def test_an_answer_is_cut_where_its_sentence_ends(said: str, answer: str) -> None:
    assert sentence_end(said) == answer


def test_sampled_rows_equal_a_plain_loop(tiny: LoadedModel) -> None:
    begin, seeds = tiny.tokenizer.eos_token_id, (3, 4)
    draws = [torch.rand(6, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    rows = torch.full((2, 1), begin)
    with torch.no_grad():
        for step in range(6):
            shares = tiny.model(input_ids=rows, use_cache=False).logits[:, -1].double().softmax(-1).cumsum(-1)
            wanted = [int((row < float(one[step])).sum()) for row, one in zip(shares, draws, strict=True)]
            rows = torch.cat([rows, torch.tensor(wanted)[:, None]], dim=1)
    told: list[int] = []
    assert sampled_rows(tiny, begin, 6, seeds, told.append).tolist() == rows[:, 1:].tolist()
    assert told == [2, 4, 6, 8, 10, 12]
