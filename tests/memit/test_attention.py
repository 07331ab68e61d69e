"""Edits of the attention's output projections in place of the MLP's (MEMIT, Figure 12)."""

from collections.abc import Sequence

import pytest
import torch

from kbsync.memit import MemitSettings, collect_covariances, edited, group_requests, optimise_targets, spread
from kbsync.memit.groups import RequestGroup
from kbsync.models import LoadedModel, capture, locate, score_targets
from tests.memit.test_families import CONTEXTS, EDITS
from tests.taught import READ_AFTER, taught_model
from tests.tiny_models import TEXTS, left_as_found

SETTINGS = MemitSettings(
    layers=(READ_AFTER - 1, READ_AFTER),
    lambda_=0.01,
    sequence_length=24,
    lr=0.2,
    clamp_norm_factor=3.0,
    weight_decay=0.0,
    sweeps=3,
)


def hidden_at_subject(loaded: LoadedModel, groups: Sequence[RequestGroup], layer: int) -> torch.Tensor:
    """Return h of block `layer` at S of the groups' bare prompts, [u, d]."""
    states = []
    for fact in (group.requests[0] for group in groups):
        (one,) = locate(loaded.tokenizer, [(fact.prompt, fact.subject, "")])
        with capture(loaded.family.block_list(loaded.model)[layer]) as block, torch.no_grad():
            loaded.model(torch.tensor([one.ids]))
        states.append(block.value[0, one.subject_last])
    return torch.stack(states)


# How much of the way to z may be left: behind a norm not all points can be reached (Gemma 2).
@pytest.mark.parametrize(
    ("name", "left"), [("gptj", 0.02), ("gpt2", 0.02), ("llama", 0.02), ("gemma2", 0.5), ("opt", 0.02)]
)
def test_deltas_bring_the_hidden_states_to_their_targets(name: str, left: float) -> None:
    """By the attention alone: the MLP's weights are not touched, and all are back bit for bit."""
    with left_as_found(taught_model(name)) as loaded:
        attention = loaded.at_attention()
        groups = group_requests(loaded, EDITS)
        z = torch.stack([target.z for target in optimise_targets(loaded, groups, CONTEXTS, SETTINGS)])
        covariances, _ = collect_covariances(attention, TEXTS, SETTINGS)
        ridged = {layer: C + 0.01 * C.diag().mean() * torch.eye(len(C)) for layer, C in covariances.items()}
        before = hidden_at_subject(loaded, groups, READ_AFTER)
        mlp = [loaded.weight(layer).clone() for layer in SETTINGS.layers]
        deltas = spread(attention, groups, CONTEXTS, z, ridged, SETTINGS)
        for layer, delta in deltas.items():
            assert delta.matrix().shape == attention.weight(layer).shape
        with edited(attention, deltas):
            after = hidden_at_subject(loaded, groups, READ_AFTER)
            scores = score_targets(loaded, [(fact.prompt, fact.subject, fact.target) for fact in EDITS])
            assert all(torch.equal(loaded.weight(layer), one) for layer, one in zip(SETTINGS.layers, mlp, strict=True))
    assert float((after - z).norm()) < left * float((before - z).norm())
    assert sum(score.exact for score in scores) >= 3
