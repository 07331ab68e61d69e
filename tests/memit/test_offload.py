"""A model under accelerate's hooks gives the figures of the plain one, from targets to scores."""

from pathlib import Path

import pytest
import torch

from kbsync.memit import MemitSettings, collect_covariances, edited, optimise_targets, spread
from kbsync.models import load_model, score_targets
from tests.memit.test_spread import CONTEXTS, GROUPS
from tests.models.test_weights import offloaded
from tests.tiny_models import TEXTS, random_folder

SETTINGS = MemitSettings(layers=(1, 2), lambda_=2.0, steps=4, sweeps=2)
TRIPLES = [(request.prompt, request.subject, request.target) for group in GROUPS for request in group.requests]


@pytest.mark.parametrize("how", ["disk", "cpu"])
@pytest.mark.parametrize("model_type", ["gptj", "gpt2"])
def test_everything_is_as_without_offloading(
    model_type: str, how: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder: Path = random_folder(tmp_path_factory.getbasetemp(), model_type)
    plain, loaded = load_model(str(folder), device="cpu"), offloaded(folder, how)
    z = torch.stack([target.z for target in optimise_targets(plain, GROUPS, CONTEXTS, SETTINGS)])
    other_z = torch.stack([target.z for target in optimise_targets(loaded, GROUPS, CONTEXTS, SETTINGS)])
    torch.testing.assert_close(other_z, z, rtol=1e-5, atol=1e-5)
    covariances, _ = collect_covariances(plain, TEXTS, SETTINGS)
    others, _ = collect_covariances(loaded, TEXTS, SETTINGS)
    for layer in SETTINGS.layers:
        torch.testing.assert_close(others[layer], covariances[layer], rtol=1e-5, atol=1e-5)
    deltas = spread(plain, GROUPS, CONTEXTS, z, covariances, SETTINGS)
    found = spread(loaded, GROUPS, CONTEXTS, z, covariances, SETTINGS)
    for layer, delta in deltas.items():
        difference = (found[layer].matrix() - delta.matrix()).norm() / delta.matrix().norm()
        assert float(difference) < 1e-5
    base = score_targets(plain, TRIPLES)
    with edited(plain, deltas), edited(loaded, deltas):
        wanted, scores = score_targets(plain, TRIPLES), score_targets(loaded, TRIPLES)
    assert [score.log_prob for score in scores] == pytest.approx([score.log_prob for score in wanted], rel=1e-5)
    assert [score.log_prob for score in wanted] != pytest.approx([score.log_prob for score in base], rel=1e-2)
    again = score_targets(loaded, TRIPLES)
    assert [score.log_prob for score in again] == pytest.approx([score.log_prob for score in base], rel=1e-5)
