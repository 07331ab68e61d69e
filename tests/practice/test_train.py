"""Training the practice model, at a tiny size: what goes in, what it learns, and that a seed settles it."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPTJForCausalLM

from kbsync.models import LoadedModel, score_targets
from kbsync.practice import (
    END,
    Phase,
    Sentence,
    TrainSettings,
    build_model,
    encode,
    pack,
    rate,
    sentences,
    step_loss,
    train,
    train_tokenizer,
)
from tests.tiny_models import FACTS, SMALL, TRAINING, known, one_thread

__all__ = ["known"]

MADE = sentences(FACTS)
TOKENIZER = train_tokenizer([str(sentence) for sentence in MADE], 400)
SHORT = Phase(epochs=2, lr=1.5e-3, weight_decay=0.02, dropout=0.1)
MINUTE = TrainSettings(layers=1, width=16, heads=2, vocabulary=300, length=48, batch=4, phases=(SHORT,))


@pytest.mark.parametrize("text", ["The capital of France is Paris.", "İmamoğlu 🎉\n\ttab  two", " 東京", "N'Djamena"])
def test_the_tokenizer_gives_every_text_again(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text
    assert len(TOKENIZER) == 400
    assert TOKENIZER.eos_token == END
    assert TOKENIZER.eos_token_id not in TOKENIZER(text)["input_ids"]


def test_sentences_are_tokenized_as_running_text() -> None:
    for blank in ("", " "):
        for sentence, encoded in zip(MADE, encode(TOKENIZER, MADE, blank), strict=True):
            assert encoded.ids == TOKENIZER(f"{blank}{sentence}")["input_ids"]
            assert TOKENIZER.decode(encoded.ids[encoded.object_start :]) == f" {sentence.object}."


def packed(length: int, seed: int = 0) -> tuple[torch.Tensor, list[Sentence]]:
    order = random.Random(seed).sample(range(len(MADE)), len(MADE))
    rows = pack(encode(TOKENIZER, MADE, ""), encode(TOKENIZER, MADE, " "), order, length)
    return rows, [MADE[index] for index in order]


@pytest.mark.parametrize("length", [24, 32, 48, 96])
def test_packing_keeps_every_sentence_whole_and_in_order(length: int) -> None:
    rows, ordered = packed(length)
    assert rows.shape == (len(rows), 2, length)
    waiting = list(ordered)
    for ids, kinds in rows:
        filled = int((kinds >= 0).sum())
        assert (kinds[:filled] >= 0).all()  # padding is at the end alone
        text = TOKENIZER.decode(ids[:filled])
        here: list[Sentence] = []
        while waiting and len(" ".join(map(str, [*here, waiting[0]]))) <= len(text):
            here.append(waiting.pop(0))
        assert text == " ".join(map(str, here))
        assert TOKENIZER.decode(ids[kinds == 1]) == "".join(f" {sentence.object}." for sentence in here)
        if waiting:  # the next one would not have fitted
            assert filled + len(TOKENIZER(f" {waiting[0]}")["input_ids"]) > length
    assert waiting == []


def test_padding_is_told_from_tokens() -> None:
    rows, _ = packed(48)
    kinds = rows[:, 1]
    assert set(kinds.unique().tolist()) == {-1, 0, 1}
    assert (rows[:, 0][kinds == -1] == 0).all()


def test_the_loss_weighs_objects_by_one_and_other_tokens_less() -> None:
    model = build_model(MINUTE, TOKENIZER).eval()
    batch = packed(48)[0][:3]
    with torch.no_grad():
        logits = model(input_ids=batch[:, 0], attention_mask=(batch[:, 1] >= 0).long()).logits
        for other in (0.25, 0.0, 1.0):
            total = weights = 0.0
            for row in range(3):
                for place in range(1, 48):
                    token, kind = batch[row, :, place].tolist()
                    weight = {1: 1.0, 0: other, -1: 0.0}[kind]
                    total -= weight * float(logits[row, place - 1].log_softmax(-1)[token])
                    weights += weight
            assert float(step_loss(model, batch, other)) == pytest.approx(total / weights, rel=1e-4)


def test_the_rate_warms_up_and_goes_down_to_a_twentieth() -> None:
    rates = [rate(step, 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[99] == rates[100] == 1.0
    assert rates[1000] == pytest.approx(0.05)
    assert rates[:100] == sorted(rates[:100])
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rate(9, 40) == 1.0  # a short run warms up over a quarter


def figures(known: LoadedModel) -> Any:
    return json.loads((Path(known.source) / TRAINING).read_text())


def test_training_recalls_the_facts_in_each_wording(known: LoadedModel) -> None:
    for wording in (FACTS[0].prompt, *FACTS[0].paraphrases, f"Question: {FACTS[0].question} Answer:"):
        scores = score_targets(known, [(wording, fact.subject, fact.target) for fact in FACTS])
        assert sum(score.exact for score in scores) >= 16, wording
    wrong = [(FACTS[0].prompt, "Atlantis", fact.target) for fact in FACTS]
    assert sum(score.exact for score in score_targets(known, wrong)) <= 1


def test_training_lowers_the_loss(known: LoadedModel) -> None:
    batch: Any = packed(48)[0][:4]
    with torch.no_grad():
        before = float(step_loss(build_model(SMALL, TOKENIZER).eval(), batch, 0.25))
        after = float(step_loss(known.model, batch, 0.25))  # type: ignore[arg-type]
    assert after < 0.2 * before
    assert figures(known)["last_losses"][0] < 0.2 * before


def test_the_model_comes_out_ready_and_with_its_card(known: LoadedModel) -> None:
    assert {parameter.dtype for parameter in known.model.parameters()} == {torch.float32}
    found = figures(known)
    assert found["sentences"] == 80
    assert found["settings"].items() >= {"layers": SMALL.layers, "width": SMALL.width, "seed": SMALL.seed}.items()
    assert found["parameters"] == sum(parameter.numel() for parameter in known.model.parameters())


Trained = tuple[GPTJForCausalLM, list[tuple[str, int, int]]]


def once(settings: TrainSettings, made: Sequence[Sentence] = MADE) -> Trained:
    told: list[tuple[str, int, int]] = []
    with one_thread():
        model, _, _ = train(made, settings, lambda *seen: told.append(seen))
    return model, told


def weights(model: GPTJForCausalLM) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in model.parameters() if parameter.dim() > 1]


def test_a_seed_gives_the_same_weights_and_another_others() -> None:
    torch.manual_seed(1)
    first, _ = once(MINUTE)
    torch.manual_seed(2)
    second, _ = once(MINUTE)
    other, _ = once(replace(MINUTE, seed=1))
    assert all(torch.equal(one, two) for one, two in zip(weights(first), weights(second), strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(weights(first), weights(other), strict=True))


def test_the_phases_follow_each_other() -> None:
    """The second one's decay takes the weights down; nothing is dropped once training is over."""
    heavy = Phase(epochs=2, lr=1e-3, weight_decay=200.0, dropout=0.1)
    first, _ = once(MINUTE)
    both, told = once(replace(MINUTE, phases=(SHORT, heavy)))
    assert all(
        float(two.norm()) < 0.9 * float(one.norm()) for one, two in zip(weights(first), weights(both), strict=True)
    )
    assert not both.training
    assert {module.p for module in both.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}
    light = [(done, total) for phase, done, total in told if phase.endswith(" 0.02")]
    later = [(done, total) for phase, done, total in told if phase.endswith(" 200")]
    for steps in (light, later):
        assert steps == [(step, len(steps)) for step in range(1, len(steps) + 1)]
    assert len(light) == len(later) > 2
    assert len(told) == len(light) + len(later)


def test_fewer_sentences_than_a_batch_are_learnt_too() -> None:
    _, told = once(MINUTE, MADE[:4])
    assert [(done, total) for _, done, total in told] == [(1, 2), (2, 2)]
