"""The causal trace against plain loops: one fact, one draw and one token at a time, each forward whole."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import product

import pytest
import torch

from kbsync.facts import EditRequest
from kbsync.metrics.trace import (
    KINDS,
    NOISE,
    SEVERED,
    CausalTrace,
    causal_trace,
    default_window,
    mlp_effects,
    window_about,
)
from kbsync.metrics.trace_batch import (
    GROUPS,
    LAST_SUBJECT,
    MLP,
    STATE,
    TracedFact,
    embedding_noise,
    place_facts,
    traced_modules,
)
from kbsync.models import LoadedModel, capture, replace
from tests.tiny_models import FACTS

SOME = (FACTS[0], FACTS[19])
"""France and Saint Lucia: subjects of one token and of several"""
SAMPLES, WINDOW, SEED = 2, 2, 3


def still(module: torch.nn.Module, position: int, value: torch.Tensor) -> AbstractContextManager[None]:
    """Let a module give `value` at one position of a single row."""

    def put(output: torch.Tensor) -> torch.Tensor:
        changed = output.clone()
        changed.view(-1, changed.shape[-1])[position] = value
        return changed

    return replace(module, put)


@dataclass
class Plain:
    """One fact, traced the plain way."""

    loaded: LoadedModel
    fact: TracedFact
    sigma: float

    def __post_init__(self) -> None:
        self.modules = {kind: traced_modules(self.loaded, kind) for kind in KINDS}
        self.embeddings = self.loaded.model.get_input_embeddings()
        width = self.embeddings(torch.tensor([0])).shape[-1]
        self.noise = embedding_noise(self.fact, SAMPLES, width, SEED) * NOISE * self.sigma
        self.clean, self.was = self.run([])
        runs = [self.run([self.corrupting(draw)]) for draw in range(SAMPLES)]
        self.corrupted = sum(probability for probability, _ in runs) / SAMPLES
        self.frozen = [outputs for _, outputs in runs]

    def run(self, changes: Sequence[AbstractContextManager[None]]) -> tuple[float, dict[str, list[torch.Tensor]]]:
        """Return the object's probability, and what every module gives."""
        with ExitStack() as stack:
            for change in changes:
                stack.enter_context(change)
            seen = {kind: [stack.enter_context(capture(one)) for one in own] for kind, own in self.modules.items()}
            log_probs = self.loaded.model(torch.tensor([self.fact.ids])).logits[0].log_softmax(-1)
        read = [log_probs[self.fact.end + ahead, token] for ahead, token in enumerate(self.fact.target)]
        outputs = {kind: [one.value.view(len(log_probs), -1) for one in own] for kind, own in seen.items()}
        return float(torch.stack(read).sum().exp()), outputs

    def corrupting(self, draw: int) -> AbstractContextManager[None]:
        noise = torch.zeros(1, len(self.fact.ids), self.noise.shape[-1])
        noise[0, self.fact.begin : self.fact.last + 1] = self.noise[draw]
        return replace(self.embeddings, lambda output: output + noise)

    def effect(self, kind: str, layers: range, position: int, severed: str | None = None) -> float:
        """Return the indirect effect, the mean over the draws."""
        total = 0.0
        for draw in range(SAMPLES):
            changes = [self.corrupting(draw)]
            changes += [still(self.modules[kind][one], position, self.was[kind][one][position]) for one in layers]
            if severed is not None:  # of all blocks: those below and at the state do not matter
                frozen = enumerate(self.frozen[draw][severed])
                changes += [still(self.modules[severed][one], position, was[position]) for one, was in frozen]
                changes.append(changes.pop(1))  # the state is put back behind the block's own modules
            total += self.run(changes)[0]
        return total / SAMPLES - self.corrupted


def plainly(loaded: LoadedModel, facts: Sequence[EditRequest]) -> Iterator[Plain]:
    """Trace facts one by one; sigma is that of all subjects' embeddings."""
    placed = place_facts(loaded, facts)
    embed = loaded.model.get_input_embeddings()
    spans = [embed(torch.tensor(fact.ids[fact.begin : fact.last + 1])) for fact in placed]
    sigma = float(torch.cat(spans).std())
    return (Plain(loaded, fact, sigma) for fact in placed)


def traced(loaded: LoadedModel, token_budget: int) -> CausalTrace:
    return causal_trace(loaded, SOME, samples=SAMPLES, seed=SEED, window=WINDOW, token_budget=token_budget)


def test_it_does_not_matter_what_is_run_together(tiny: LoadedModel) -> None:
    few, all_ = (traced(tiny, token_budget) for token_budget in (60, 10_000))
    alone = causal_trace(tiny, SOME, samples=SAMPLES, seed=SEED, kinds=[MLP], severed=[], window=WINDOW, token_budget=1)
    for other in (few, alone):
        torch.testing.assert_close(other.corrupted, all_.corrupted, rtol=0, atol=1e-5)
        for kind in other.effects:
            torch.testing.assert_close(other.effects[kind], all_.effects[kind], rtol=0, atol=1e-5, equal_nan=True)
        for kind in other.severed:
            torch.testing.assert_close(other.severed[kind], all_.severed[kind], rtol=0, atol=1e-5)
    assert (set(few.effects), set(few.severed)) == (set(KINDS), set(SEVERED))
    assert (set(alone.effects), set(alone.severed)) == ({MLP}, set())


@torch.no_grad()
def test_it_equals_plain_loops(tiny: LoadedModel) -> None:
    """Every kind, group, layer and severed variant."""
    found = traced(tiny, token_budget=150)
    layers = range(4)
    for number, plain in enumerate(plainly(tiny, SOME)):
        assert float(found.clean[number]) == pytest.approx(plain.clean, abs=1e-5)
        assert float(found.corrupted[number]) == pytest.approx(plain.corrupted, abs=1e-5)
        for kind, layer in product(KINDS, layers):
            window = range(layer, layer + 1) if kind == STATE else window_about(layer, WINDOW, len(layers))
            by_group: dict[str, list[float]] = {group: [] for group in GROUPS}
            for position, group in plain.fact.places():
                by_group[group].append(plain.effect(kind, window, position))
            expected = [sum(some) / len(some) if some else torch.nan for some in by_group.values()]
            assert found.effects[kind][number, :, layer].tolist() == pytest.approx(expected, abs=1e-5, nan_ok=True)
        for kind, layer in product(SEVERED, layers):
            expected_one = plain.effect(STATE, range(layer, layer + 1), plain.fact.last, severed=kind)
            assert float(found.severed[kind][number, layer]) == pytest.approx(expected_one, abs=1e-5)


def test_a_model_that_knows(known: LoadedModel) -> None:
    found = causal_trace(known, FACTS)
    assert float(found.clean.mean()) > 0.9
    assert float(found.corrupted.mean()) < float(found.clean.mean()) / 2
    # S is not read above the last block.
    assert float(found.at(STATE)[:, -1].abs().max()) < 1e-6
    assert float(found.at(STATE).mean(0)[0]) > 0.03


def test_noise_depends_on_the_seed_and_the_fact_alone(known: LoadedModel) -> None:
    some, one = causal_trace(known, FACTS[:3], kinds=[MLP], severed=[]), place_facts(known, FACTS[:1])[0]
    again, other = (causal_trace(known, FACTS[:3], kinds=[MLP], severed=[], seed=seed) for seed in (0, 1))
    assert torch.equal(some.corrupted, again.corrupted)
    assert not torch.equal(some.corrupted, other.corrupted)
    assert torch.equal(embedding_noise(one, 1, 8, 0), embedding_noise(one, 2, 8, 0)[:1])


def test_mlps_one_by_one(known: LoadedModel) -> None:
    """What a calibration asks for."""
    found = mlp_effects(known, FACTS)
    whole = causal_trace(known, FACTS, window=1)
    assert found["layers"] == pytest.approx(whole.at(MLP).mean(0).tolist(), abs=1e-6)
    assert found["clean"] == pytest.approx(float(whole.clean.mean()))
    assert max(found["layers"]) == found["layers"][0] > 0.01  # what it knows begins at the subject's first MLP


def test_the_subject_is_all_of_its_tokens_and_each_token_is_in_one_group(tiny: LoadedModel) -> None:
    for fact, placed in zip(SOME, place_facts(tiny, SOME), strict=True):
        inside = placed.ids[placed.begin : placed.last + 1]
        assert str(tiny.tokenizer.decode(list(inside))).strip() == fact.subject
        groups = [group for _, group in placed.places()]
        assert len(groups) == placed.end - placed.begin + 1
        assert groups.count(LAST_SUBJECT) == groups.count("last token") == 1
        assert (groups[0] == "first subject token") == (len(inside) > 1)
        assert groups == sorted(groups, key=GROUPS.index)


@pytest.mark.parametrize(
    ("last", "end", "groups"),
    [(2, 2, [LAST_SUBJECT]), (2, 3, [LAST_SUBJECT, "last token"]), (2, 4, [LAST_SUBJECT, *GROUPS[3::2]])],
)
def test_prompts_that_end_near_their_subject(last: int, end: int, groups: list[str]) -> None:
    fact = TracedFact(FACTS[0], tuple(range(end + 1)), last, last, end, (7,))
    assert [group for _, group in fact.places()] == groups


def test_windows() -> None:
    assert [default_window(depth) for depth in (4, 8, 28, 48)] == [1, 2, 6, 10]
    assert [list(window_about(layer, 3, 4)) for layer in range(4)] == [[0, 1], [0, 1, 2], [1, 2, 3], [2, 3]]
    assert [list(window_about(layer, 2, 4)) for layer in range(4)] == [[0], [0, 1], [1, 2], [2, 3]]
