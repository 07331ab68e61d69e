"""Who a model is in a home, and the tensors of its state."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kbsync.errors import LedgerError, ModelError
from kbsync.ledger import Ledger, write_tensors
from kbsync.memit import MemitSettings, WeightDelta
from kbsync.models import LoadedModel
from kbsync.workflows.choice import ModelChoice
from kbsync.workflows.state import current_deltas, delta_tensors, identify, model_contexts
from tests.ledger.helpers import apply, fact, model, new_edit, pull
from tests.tiny_models import known, set_to

__all__ = ["known"]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def choice(known: LoadedModel) -> ModelChoice:
    return ModelChoice("known", known, MemitSettings(layers=(1, 2), contexts=3), None, None)


def delta(members: int) -> WeightDelta:
    generator = torch.Generator().manual_seed(members)
    return WeightDelta(torch.randn(6, members, generator=generator), torch.randn(members, 10, generator=generator))


@pytest.mark.parametrize(("members", "kept"), [(2, {"left.3", "right.3"}), (5, {"delta.3"})])
def test_a_delta_is_kept_in_its_smaller_form(members: int, kept: set[str], ledger: Ledger) -> None:
    tensors = delta_tensors({3: delta(members)})
    assert tensors.keys() == kept
    name, sha256 = write_tensors(ledger.tensors, tensors, {})
    key = model(ledger)
    batch = apply(ledger, key, files={name: sha256})
    current = ledger.current_batch(key)
    assert current is not None
    assert current.id == batch
    (layer,) = found = current_deltas(ledger, current)
    assert layer == 3
    assert torch.allclose(found[3].float(), delta(members).matrix().float(), atol=1e-6)


def test_no_batch_and_no_edits_mean_no_deltas(ledger: Ledger) -> None:
    assert current_deltas(ledger, None) == {}
    apply(ledger, model(ledger))
    assert current_deltas(ledger, ledger.current_batch("model:1")) == {}


def test_a_file_that_is_not_as_it_was_written(ledger: Ledger) -> None:
    name, sha256 = write_tensors(ledger.tensors, delta_tensors({3: delta(2)}), {})
    apply(ledger, model(ledger), files={name: sha256})
    path = ledger.tensors / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=f"{name} is not as kbsync wrote it"):
        current_deltas(ledger, ledger.current_batch("model:1"))
    path.unlink()
    with pytest.raises(LedgerError, match=f"{name} is missing"):
        current_deltas(ledger, ledger.current_batch("model:1"))


def test_a_model_is_recorded_once(ledger: Ledger, choice: ModelChoice) -> None:
    first = identify(ledger, choice)
    assert (first.name, first.architecture, first.layers) == ("known", "GPTJForCausalLM", (1, 2))
    assert len(first.contexts) == 4
    assert first.contexts[0] == "{}"
    again = identify(ledger, replace(choice, settings=MemitSettings(layers=(0,), contexts=1)))
    assert (again.key, again.contexts) == (first.key, first.contexts)
    assert len(ledger.models()) == 1


def test_changed_weights_are_another_model_until_there_are_edits(ledger: Ledger, choice: ModelChoice) -> None:
    first = identify(ledger, choice)
    weight = choice.loaded.family.weight(choice.loaded.model, 3)  # a layer that is not edited counts too
    with set_to(weight, weight + 1e-3):
        second = identify(ledger, choice)
    assert second.key != first.key
    assert second.weights_sha256 != first.weights_sha256
    identify(ledger, choice)
    pull(ledger, fact("France", "Oslo"))
    apply(ledger, first.key, added=[new_edit(ledger.facts()[0])])
    with set_to(weight, weight + 1e-3), pytest.raises(ModelError, match="has changed since its edits") as refused:
        identify(ledger, choice)
    for sha256 in (first.weights_sha256, second.weights_sha256):
        assert sha256[:12] in str(refused.value)
    assert identify(ledger, choice).key == first.key


def test_contexts_are_those_on_record_unless_others_are_asked_for(ledger: Ledger, choice: ModelChoice) -> None:
    row = identify(ledger, choice)
    assert model_contexts(row, choice) == row.contexts
    fewer = model_contexts(row, replace(choice, settings=replace(choice.settings, contexts=1)))
    assert len(fewer) == 2
    steps = replace(choice, settings=replace(choice.settings, steps=3))
    assert model_contexts(row, steps) == row.contexts
