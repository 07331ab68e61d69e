"""The causal trace against plain loops: one fact and one draw at a time, each forward whole."""

from collections.abc import Sequence
from contextlib import ExitStack

import pytest
import torch

from kbsync.facts import EditRequest
from kbsync.metrics.trace import NOISE, SAMPLES, Traced, mlp_effects
from kbsync.models import LoadedModel, capture, locate, replace
from tests.tiny_models import FACTS

SOME = (FACTS[0], FACTS[14], FACTS[19])
"""France, Nepal, Saint Lucia: subjects of one token and of several"""


@torch.no_grad()
def plain_effects(loaded: LoadedModel, facts: Sequence[EditRequest]) -> list[float]:
    """Each block's effect; the noise is the same draw as that of `mlp_effects`."""
    placed = locate(loaded.tokenizer, [(fact.prompt, fact.subject, fact.target) for fact in facts])
    length = max(len(one.ids) for one in placed) - 1
    embed = loaded.model.get_input_embeddings()
    spans, embedded, held = [], [], []
    depth = len(loaded.family.block_list(loaded.model))
    downs = [loaded.family.down_projection(loaded.model, layer) for layer in range(depth)]
    for fact, one in zip(facts, placed, strict=True):
        text = f"{fact.prompt.format(fact.subject)} {fact.target}"
        offsets = loaded.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        begin = text.index(fact.subject)
        spans.append([place for place, (_, end) in enumerate(offsets) if begin < end <= begin + len(fact.subject)])
        assert spans[-1][-1] == one.subject_last
        with ExitStack() as stack:
            outputs = [stack.enter_context(capture(down)) for down in downs]
            seen = stack.enter_context(capture(embed))
            loaded.model(input_ids=torch.tensor([one.ids[:-1]]))
            held.append([output.value[0, one.subject_last] for output in outputs])
            embedded.append(seen.value[0, spans[-1]])
    sigma = torch.cat(embedded).std()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(SAMPLES * len(facts), length, embedded[0].shape[1], generator=generator)

    def probability(which: int, draw: int, layer: int | None) -> float:
        one = placed[which]
        noise = drawn[draw * len(facts) + which] * NOISE * sigma

        def corrupt(output: torch.Tensor) -> torch.Tensor:
            changed = output.clone()
            for place in spans[which]:
                changed[0, place] += noise[place]
            return changed

        def restore(output: torch.Tensor) -> torch.Tensor:
            changed = output.clone()
            assert layer is not None
            changed[0, one.subject_last] = held[which][layer]
            return changed

        with ExitStack() as stack:
            stack.enter_context(replace(embed, corrupt))
            if layer is not None:
                stack.enter_context(replace(downs[layer], restore))
            log_probs = loaded.model(input_ids=torch.tensor([one.ids[:-1]])).logits[0].log_softmax(-1)
        read = [log_probs[place - 1, one.ids[place]] for place in range(one.target_start, len(one.ids))]
        return float(torch.stack(read).sum().exp())

    pairs = [(which, draw) for which in range(len(facts)) for draw in range(SAMPLES)]
    corrupted = [probability(*pair, None) for pair in pairs]
    return [
        sum(probability(*pair, layer) - before for pair, before in zip(pairs, corrupted, strict=True)) / len(pairs)
        for layer in range(depth)
    ]


def test_effects_equal_plain_loops(tiny: LoadedModel) -> None:
    assert mlp_effects(tiny, SOME).by_layer == pytest.approx(plain_effects(tiny, SOME), abs=1e-5)


def test_effects_of_a_model_that_knows(known: LoadedModel) -> None:
    found = mlp_effects(known, FACTS)
    assert found.by_layer == pytest.approx(plain_effects(known, FACTS), abs=1e-4)
    assert found.clean > 0.9
    assert found.corrupted < found.clean / 2
    assert max(found.by_layer) == found.by_layer[0] > 0.01  # what it knows begins at the subject's first MLP
    assert found.by_layer[-1] == pytest.approx(0, abs=1e-6)  # S is not read above the last block


def test_the_subject_is_all_of_its_tokens(tiny: LoadedModel) -> None:
    traced = Traced(tiny, SOME)
    for fact, ids, inside in zip(SOME, traced.rows.ids, traced.subject, strict=True):
        assert str(tiny.tokenizer.decode(ids[inside])).strip() == fact.subject
