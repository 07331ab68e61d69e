"""Perplexity against a plain loop, its interval, and where there is nothing to read or a probability is zero."""

import importlib
import math

import pytest
import torch

from kbsync.metrics import line_losses, perplexity, perplexity_figure
from kbsync.models import LoadedModel
from tests.models.plain import next_log_probs
from tests.tiny_models import TEXTS, set_to

LINES = [*TEXTS[:12], "", "x", "In 1987. In 1987. In 1987. It rained, and it rained, and the river was high."]


def plain_perplexity(loaded: LoadedModel, lines: list[str], length: int) -> float:
    found: list[float] = []
    for line in lines:
        ids = list(loaded.tokenizer(line)["input_ids"])[:length]
        if len(ids) > 1:
            log_probs = next_log_probs(loaded, ids)
            found += [float(log_probs[place - 1, ids[place]]) for place in range(1, len(ids))]
    return math.exp(-sum(found) / len(found))


@pytest.mark.parametrize("length", [512, 10, 2])
def test_it_equals_a_plain_loop(tiny: LoadedModel, length: int) -> None:
    assert perplexity(tiny, LINES, length) == pytest.approx(plain_perplexity(tiny, LINES, length), rel=1e-4)


def test_how_lines_are_batched_does_not_matter(known: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = perplexity(known, LINES)
    monkeypatch.setattr(importlib.import_module("kbsync.metrics.generation"), "TOKEN_BUDGET", 10)
    assert perplexity(known, LINES) == pytest.approx(whole, rel=1e-5)


def test_text_that_a_model_knows_is_less_perplexing(known: LoadedModel) -> None:
    vocabulary = len(known.tokenizer)
    strange = ["Oslo capital the is sits Peru Norway of of.", "zzz xyz"]
    assert 1 < perplexity(known, TEXTS[:20]) < 10 < perplexity(known, strange)
    with set_to(known.model.lm_head.weight, 0.0), set_to(known.model.lm_head.bias, 0.0):
        assert perplexity(known, TEXTS[:5]) == pytest.approx(vocabulary, rel=1e-5)


def test_a_probability_of_zero_is_infinite(known: LoadedModel) -> None:
    bias = known.model.lm_head.bias.data.clone()
    bias[known.tokenizer("The capital")["input_ids"][-1]] = -math.inf
    with set_to(known.model.lm_head.bias, bias):
        assert perplexity(known, ["The capital"]) == math.inf
        assert perplexity(known, ["In 1987."]) < math.inf


@pytest.mark.parametrize("value", [math.nan, 1e30])
def test_a_broken_model_is_infinite(known: LoadedModel, value: float) -> None:
    weight = known.model.lm_head.weight
    with set_to(weight, weight * value):
        assert perplexity(known, TEXTS[:3]) == math.inf


def test_more_than_a_float_holds_is_infinite(known: LoadedModel) -> None:
    weight = known.model.lm_head.weight
    with set_to(weight, weight * -1e4):
        assert torch.isfinite(next_log_probs(known, [1, 2, 3])).all()
        assert perplexity(known, TEXTS[:3]) == math.inf


@pytest.mark.parametrize("lines", [[], [""], ["", " "], ["x"]])
def test_nothing_to_read_is_infinite(known: LoadedModel, lines: list[str]) -> None:
    assert all(len(known.tokenizer(line)["input_ids"]) < 2 for line in lines)
    assert perplexity(known, lines) == math.inf


def test_the_interval_is_by_lines(known: LoadedModel) -> None:
    read = line_losses(known, LINES, 512)
    assert len(read) == sum(len(known.tokenizer(line)["input_ids"]) > 1 for line in LINES)
    for (loss, tokens), line in zip(read.tolist(), [line for line in LINES if len(line) > 1], strict=True):
        assert math.exp(loss / tokens) == pytest.approx(plain_perplexity(known, [line], 512), rel=1e-4)
    found = perplexity_figure(read)
    assert found.mean == pytest.approx(perplexity(known, LINES))
    assert found.low < found.mean < found.high
    assert found.cases == len(read)
    assert perplexity_figure(read) == found
    alike = perplexity_figure(read[:1].expand(9, 2))
    assert (alike.low, alike.high) == pytest.approx((alike.mean, alike.mean))
    broken = perplexity_figure(torch.tensor([[math.inf, 3.0], [1.0, 3.0]]).double())
    assert (broken.mean, broken.low, broken.high) == (math.inf, math.inf, math.inf)


def test_a_line_longer_than_the_models_positions_is_cut_there(known: LoadedModel) -> None:
    room = known.positions
    assert room is not None
    long = " ".join(LINES) + " x" * room
    assert perplexity(known, [long], 8 * room) == perplexity(known, [long], room)
