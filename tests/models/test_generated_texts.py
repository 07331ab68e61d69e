"""Generated text against a plain loop: one prompt at a time, the whole forward, no cache and no padding."""

import random

import pytest
import torch

from kbsync.models import LoadedModel
from kbsync.models.generation import draw, generate_texts
from tests.models.plain import next_log_probs

PROMPTS = ["The capital of France is", "Peru", "In 1987 the government of Saint Lucia sat in", "x"]


def plain_text(loaded: LoadedModel, prompt: str, length: int, top_k: int, seed: int = 0) -> str:
    """Draw by the same numbers, from the last row of a whole forward."""
    ids: list[int] = loaded.tokenizer(prompt)["input_ids"]
    start, rng = len(ids), random.Random(f"{seed} {prompt}")
    while len(ids) < length:
        best = next_log_probs(loaded, ids)[-1].exp().topk(top_k)
        shares, chance, place = best.values / best.values.sum(), rng.random(), 0
        while place < top_k - 1 and float(shares[: place + 1].sum()) <= chance:
            place += 1
        token = int(best.indices[place])
        if token == loaded.tokenizer.eos_token_id:
            break
        ids.append(token)
    before = loaded.tokenizer.decode(ids[:start], skip_special_tokens=True)
    return prompt + str(loaded.tokenizer.decode(ids, skip_special_tokens=True))[len(before) :]


def test_a_batch_says_what_its_rows_say_one_by_one(tiny: LoadedModel) -> None:
    for top_k, prompts in ((1, PROMPTS[:2]), (5, PROMPTS)):
        expected = [plain_text(tiny, prompt, 16, top_k) for prompt in prompts]
        assert generate_texts(tiny, prompts, 16, top_k=top_k) == expected
        assert len(set(expected)) == len(expected)


def test_a_seed_gives_the_same_text_and_another_another(known: LoadedModel) -> None:
    first = generate_texts(known, PROMPTS, 40, top_k=5, seed=1)
    assert generate_texts(known, PROMPTS[::-1], 40, top_k=5, seed=1) == first[::-1]
    assert generate_texts(known, PROMPTS, 40, top_k=5, seed=2) != first
    assert all(text.startswith(prompt) for text, prompt in zip(first, PROMPTS, strict=True))


def test_a_prompt_counts_among_the_tokens(known: LoadedModel) -> None:
    long = "The capital of France is Paris. The capital of Peru is Lima."
    tokens = len(known.tokenizer(long)["input_ids"])
    assert generate_texts(known, [long, "Peru"], tokens, top_k=5)[0] == long
    assert generate_texts(known, [long], tokens - 3, top_k=5) == [long]
    (one,) = generate_texts(known, ["Peru"], 12, top_k=5)
    assert len(known.tokenizer(one)["input_ids"]) <= 12
    assert generate_texts(known, [], 12, top_k=5) == []


def test_the_known_model_says_what_it_knows(known: LoadedModel) -> None:
    (text,) = generate_texts(known, ["The capital of France is"], 12, top_k=1)
    assert text.startswith("The capital of France is Paris.")


@pytest.mark.parametrize(("chance", "token"), [(0.0, 2), (0.49, 2), (0.51, 0), (0.81, 3), (0.999, 3)])
def test_a_token_is_drawn_by_its_share_of_the_top(chance: float, token: int) -> None:
    """Shares of the three likeliest: 0.5, 0.3, 0.2."""
    log_probs = torch.tensor([[0.24, 0.1, 0.4, 0.16, 0.1]]).log()
    assert draw(log_probs, 3, torch.tensor([chance])).tolist() == [token]
