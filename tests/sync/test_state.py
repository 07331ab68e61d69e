"""Who a model is in a home, and the tensors of its state."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kbsync.errors import LedgerError, ModelError
from kbsync.ledger import Ledger, write_tensors
from kbsync.memit import MemitSettings, WeightDelta
from kbsync.models import LoadedModel
from kbsync.models.checkpoint import model_hash
from kbsync.sync.model import ModelChoice, current_deltas, delta_tensors, identify, known_model, model_contexts
from tests.homes import Editable, done, make_home
from tests.ledger.helpers import apply, fact, model, new_edit, pull
from tests.tiny_models import CAPITALS, known, set_to

__all__ = ["known"]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def choice(known: LoadedModel) -> ModelChoice:
    return ModelChoice("known", known, MemitSettings(layers=(1, 2), contexts=3), None, None)


def attention(choice: ModelChoice) -> torch.Tensor:
    """A weight that no edit changes."""
    return next(value for name, value in choice.loaded.model.named_parameters() if ".3.attn." in name)


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
    with pytest.raises(LedgerError, match=f"{name} is not what kbsync wrote"):
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
    weight = attention(choice)  # nothing that is edited
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


def test_a_record_of_an_earlier_version_is_taken_over(ledger: Ledger, choice: ModelChoice) -> None:
    down = choice.loaded.weights_sha256(range(4))
    about: dict[str, Any] = {
        "name": "known",
        "revision": None,
        "architecture": "GPTJForCausalLM",
        "settings": {},
        "layers": (1, 2),
    }
    older = ledger.record_model(key="model1:ab", weights_sha256=down, contexts=("{}", "Now. {}"), **about)
    pull(ledger, fact("France", "Oslo"))
    apply(ledger, older.key, added=[new_edit(ledger.facts()[0])])
    known = known_model(ledger, choice)
    assert known is not None
    assert (known.key, known.weights_sha256) == (older.key, down)
    found = identify(ledger, choice)
    assert (found.key, found.contexts) == (older.key, older.contexts)
    assert found.weights_sha256 == model_hash(choice.loaded) != down
    weight = attention(choice)
    with set_to(weight, weight + 1e-3), pytest.raises(ModelError, match="has changed since its edits"):
        identify(ledger, choice)


def copied(small: Editable, folder: Path) -> Editable:
    """The small model in a folder of its own, to be changed."""
    shutil.copytree(small.name, folder)
    return replace(small, name=str(folder))


def test_after_a_change_of_attention_alone_nothing_on_record_is_used(small: Editable, tmp_path: Path) -> None:
    own = copied(small, tmp_path / "model")
    home = make_home(tmp_path / "home", P36={"France": "Oslo", "Kenya": CAPITALS["Kenya"]})
    assert own.apply(home)["optimised"] == 1
    done("rollback", "--home", home, "0", "--yes")
    before = asked_of(home)
    weights = load_file(tmp_path / "model" / "model.safetensors")
    for name, value in weights.items():
        if "attn" in name and value.is_floating_point():
            weights[name] = 1.01 * value
    save_file(weights, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    again = own.apply(home)
    assert (again["optimised"], again["from_cache"]) == (1, 0)
    with Ledger.open(home, create=False) as ledger:
        new, old = ledger.models()
    assert (new.name, new.architecture) == (old.name, old.architecture)
    assert new.key != old.key
    found = asked_of(home)
    assert found[old.key] == before[old.key]
    assert all(found[new.key][table] for table in ("answers", "targets"))
    assert len(list((home / "tensors").glob("covariance2-*"))) == 2 * len(new.layers)


def asked_of(home: Path) -> dict[str, dict[str, list[tuple[str, ...]]]]:
    """What is on record of each model."""
    kept = {"answers": "prompt, answer", "targets": "key, file"}
    with closing(sqlite3.connect(home / "ledger.db")) as db:
        models = [row[0] for row in db.execute("SELECT key FROM models")]
        return {
            model: {
                table: sorted(db.execute(f"SELECT {what} FROM {table} WHERE model = ?", [model]))
                for table, what in kept.items()
            }
            for model in models
        }


def test_contexts_are_those_on_record_unless_others_are_asked_for(ledger: Ledger, choice: ModelChoice) -> None:
    row = identify(ledger, choice)
    assert model_contexts(row, choice) == row.contexts
    fewer = model_contexts(row, replace(choice, settings=replace(choice.settings, contexts=1)))
    assert len(fewer) == 2
    steps = replace(choice, settings=replace(choice.settings, steps=3))
    assert model_contexts(row, steps) == row.contexts
