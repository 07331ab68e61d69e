"""What edits are drawn from: a data set's records, or the fixtures' facts; and the text that names none of them."""

from pathlib import Path

import pytest

from kbsync.benchmarks.bench import Bench, Pool, edit_pool
from kbsync.errors import SettingsError
from kbsync.ledger import Ledger
from kbsync.memit import MemitSettings
from kbsync.models import LoadedModel
from kbsync.sync.corpus import HELD_OUT
from kbsync.sync.model import ModelChoice
from tests.benchmarks.paper.conftest import RECORDS, write_data
from tests.tiny_models import FACTS, random_model


@pytest.fixture
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return random_model(tmp_path_factory.getbasetemp(), "gpt2")


def test_a_data_sets_records_are_the_edits_with_their_own_neighbours(loaded: LoadedModel, tmp_path: Path) -> None:
    counterfact, _ = write_data(tmp_path)
    pool = edit_pool(loaded, counterfact)
    edits = pool.edits(5, seed=1)
    assert pool.source == "counterfact.json"
    assert len(pool.edits(100)) == len(pool.facts) == RECORDS
    assert edits == pool.edits(7, seed=1)[:5] != pool.edits(5, seed=2)
    truth = {fact.subject: fact.target for fact in FACTS}
    for edit, case in zip(edits, pool.cases(edits), strict=True):
        assert edit.old == truth[edit.request.subject] != edit.request.target
        (near,) = case.neighbours
        assert near.subject.startswith("The capital of ")  # a whole prompt, as the data set has it
        assert near.object != edit.request.target
    assert {fact.target for fact in pool.facts} <= set(truth.values())


def test_what_cannot_be_edited_is_told(loaded: LoadedModel, tmp_path: Path) -> None:
    counterfact, zsre = write_data(tmp_path)
    with pytest.raises(
        SettingsError, match="does not name the objects before the edits: use one in CounterFact's form"
    ):
        edit_pool(loaded, zsre)
    with pytest.raises(
        SettingsError, match=f"--edits 99 needs 99 edits, and the data set has {RECORDS}: ask for fewer"
    ):
        edit_pool(loaded, counterfact).require(99, 0, "--edits 99")
    with pytest.raises(SettingsError, match=r"recalls none of the fixtures' facts: name a data set \(--dataset FILE\)"):
        edit_pool(loaded)


def test_the_text_names_nothing_that_is_edited(loaded: LoadedModel, tmp_path: Path) -> None:
    pool = Pool("tests", FACTS)
    (edit,) = pool.edits(1)
    corpus = tmp_path / "text.txt"
    named = f"{edit.request.subject} is far away. {edit.request.target}, too."
    lines = ["An ordinary line of text."] * 60
    lines[1], lines[1 + HELD_OUT] = f"Nothing here. {named} And nothing there.", named
    lines[2] = "The covariance reads this one."
    corpus.write_text("\n".join(lines))
    settings = MemitSettings(layers=(0,), contexts=0, covariance_tokens=200)
    with Ledger.open(tmp_path / "home") as ledger:
        bench = Bench(ledger, ModelChoice("tests", loaded, settings, corpus, None))
    assert bench.text([edit]).lines[:2] == ("Nothing here. And nothing there.", "An ordinary line of text.")
    assert bench.text([]).lines[1] == named
    assert lines[2] not in bench.text([]).lines
