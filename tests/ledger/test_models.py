"""Base models, and the caches of what is known of them."""

import sqlite3

import pytest

from kbsync.ledger import Ledger, TargetRow
from tests.ledger.helpers import model


def test_a_model_is_recorded_once(ledger: Ledger) -> None:
    key = model(ledger)
    first = ledger.find_model(key)
    assert first is not None
    assert (first.name, first.revision, first.architecture) == ("practice", None, "gptj")
    assert first.settings == {"lambda": 100.0, "layers": [0, 1]}
    assert first.contexts == ("", "It is said. ")
    assert first.layers == (0, 1)
    model(ledger, name="another name")
    (again,) = ledger.models()
    assert (again.name, again.recorded) == (first.name, first.recorded)
    assert ledger.find_model("model:none") is None


def test_the_latest_of_a_name_is_the_one_used_last(ledger: Ledger) -> None:
    for key, name in (("model:1", "practice"), ("model:2", "practice"), ("model:3", "gpt-j")):
        model(ledger, key, name)
    # The second is there later; then the first's weights are back.
    assert [found.key for found in ledger.models()] == ["model:3", "model:2", "model:1"]
    ledger.db.execute("UPDATE models SET used = '2000'")
    model(ledger, "model:1")
    latest = ledger.latest_model("practice")
    assert latest is not None
    assert latest.key == "model:1"
    assert ledger.latest_model("gpt-x") is None


def test_targets_are_found_by_key_and_replaced(ledger: Ledger) -> None:
    key = model(ledger)
    ledger.record_targets(key, "f.safetensors", [("z1", 0, 25, 0.5), ("z2", 1, 12, 0.04)])
    assert ledger.find_targets(["z2", "z9"]) == {"z2": TargetRow("z2", key, "f.safetensors", 1, 12, 0.04)}
    ledger.record_targets(key, "g.safetensors", [("z1", 3, 50, 0.1)])
    assert ledger.find_targets(["z1"]) == {"z1": TargetRow("z1", key, "g.safetensors", 3, 50, 0.1)}
    assert ledger.find_targets([]) == {}


def test_more_keys_than_sql_takes_variables(ledger: Ledger) -> None:
    key = model(ledger)
    ledger.record_targets(key, "f", [(f"z{n}", n, 25, 0.5) for n in range(40_000)])
    assert len(ledger.find_targets([f"z{n}" for n in range(40_000)])) == 40_000


def test_targets_of_an_unknown_model_are_refused(ledger: Ledger) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        ledger.record_targets("model:none", "f", [("z1", 0, 25, 0.5)])
    assert ledger.find_targets(["z1"]) == {}


def test_answers_belong_to_a_model_and_a_prompt(ledger: Ledger) -> None:
    one, two = model(ledger), model(ledger, "model:2")
    ledger.record_answers(one, {"The capital of France is": "Paris", "it's “odd”, isn't it": "\n é"})
    ledger.record_answers(two, {"The capital of France is": "Lyon"})
    asked = ["The capital of France is", "it's “odd”, isn't it", "The capital of Italy is"]
    assert ledger.answers(one, asked) == {"The capital of France is": "Paris", "it's “odd”, isn't it": "\n é"}
    assert ledger.answers(two, asked) == {"The capital of France is": "Lyon"}
    ledger.record_answers(one, {"The capital of France is": "Nice"})
    assert ledger.answers(one, asked[:1]) == {asked[0]: "Nice"}
