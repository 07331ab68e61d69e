"""MEND's network in the experiments: its training keeps out what it is then measured on."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from kbsync.benchmarks.paper import bench as paper_bench
from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.editors.mend import MendSettings, MendTraining, train_mend
from kbsync.errors import EditError
from kbsync.facts import EditRequest
from kbsync.models import LoadedModel
from kbsync.sync import practice
from kbsync.sync.practice import has_network, mend_network, train_for
from tests.benchmarks.paper.conftest import RECORDS
from tests.tiny_models import FACTS


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The subjects of the facts that MEND is trained on, for four steps."""
    seen: list[str] = []

    def noted(
        loaded: LoadedModel,
        facts: Sequence[EditRequest],
        settings: MendSettings,
        progress: Callable[[str, int, int], None],
    ) -> MendTraining:
        seen.extend(fact.subject for fact in facts)
        return train_mend(loaded, facts, replace(settings, steps=4), progress)

    monkeypatch.setattr(practice, "train_mend", noted)
    return seen


def test_the_evaluated_subjects_are_those_of_both_data_sets(bench: PaperBench) -> None:
    assert bench.evaluated == {fact.subject for fact in FACTS[:RECORDS]}


def test_the_training_keeps_them_out(bench: PaperBench, trained_on: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = bench.ledger.tensors.glob("mend1-*")
    file.unlink()
    shouted = [replace(fact, subject=fact.subject.upper()) for fact in FACTS[:RECORDS]]  # the same subjects
    monkeypatch.setattr(paper_bench, "facts_to_ask", lambda home, ledger, relations: ([*FACTS, *shouted], "tests"))
    told = bench.training()
    assert told is not None
    assert told["facts"] == len(FACTS) - RECORDS
    assert sorted(trained_on) == sorted(fact.subject for fact in FACTS[RECORDS:])
    assert file.exists()


def test_a_network_that_has_seen_them_is_not_taken(bench: PaperBench, trained_on: list[str]) -> None:
    tensors, loaded = bench.ledger.tensors, bench.loaded
    own = bench.network().state_dict()
    assert not has_network(tensors, loaded)
    train_for(bench.ledger, bench.choice, (FACTS, "tests"), len(FACTS), None)
    assert set(trained_on) == {fact.subject for fact in FACTS}
    other = mend_network(tensors, loaded).state_dict()
    assert any(not other[name].equal(value) for name, value in own.items())
    again = bench.network().state_dict()
    assert all(again[name].equal(value) for name, value in own.items())


def test_too_few_other_facts_are_told(bench: PaperBench) -> None:
    with pytest.raises(EditError, match="MEND edits 8 facts in a step, and of the 0 that it is to train on"):
        train_for(bench.ledger, bench.choice, (FACTS[:RECORDS], "tests"), 20, 4, without=bench.evaluated)
