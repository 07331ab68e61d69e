"""What a model is sure of: by hand, and on a model that is right or wrong in all."""

import pytest

from kbsync.metrics.intervals import Sure, bins, calibration_error, sureness
from kbsync.models import LoadedModel
from tests.models.plain import next_log_probs
from tests.tiny_models import FACTS


def test_by_hand() -> None:
    answers = [Sure(0.9, True), Sure(0.9, False), Sure(0.1, False), Sure(1.0, True)]
    low, high = bins(answers)
    assert low == {"low": 0, "high": 20, "answers": 1, "sure": 10.0, "right": 0.0}
    assert (high["low"], high["high"], high["answers"]) == (80, 100, 3)
    assert (high["sure"], high["right"]) == pytest.approx((280 / 3, 200 / 3))
    found = calibration_error(answers)
    assert found.mean == pytest.approx((10 + 80) / 4)
    assert found.cases == 4
    assert found.low <= found.mean <= found.high


def test_scores_of_0_and_100() -> None:
    assert calibration_error([Sure(1.0, True)] * 3).mean == 0
    assert calibration_error([Sure(1.0, False)] * 3).mean == 100


def test_a_model_that_knows_its_facts_is_sure_and_right(known: LoadedModel) -> None:
    prompts = [fact.prompt.format(fact.subject) for fact in FACTS[:4]]
    right = sureness(known, [(prompt, (fact.target,)) for prompt, fact in zip(prompts, FACTS, strict=False)])
    wrong = sureness(known, [(prompt, ("Atlantis",)) for prompt in prompts])
    assert all(one.right for one in right)
    assert not any(one.right for one in wrong)
    assert calibration_error(right).mean < 50 < calibration_error(wrong).mean
    top = next_log_probs(known, known.tokenizer(prompts[0])["input_ids"])[-1].max().exp()
    assert right[0].probability == pytest.approx(float(top), rel=1e-3)
    assert sureness(known, []) == []
