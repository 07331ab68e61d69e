"""Covariances on record: what is shared, what is collected again, and going on after a kill."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kbsync.errors import SettingsError
from kbsync.memit import collect_covariances
from kbsync.memit import covariance as covariance_module
from kbsync.memit.fast.moments import MomentSums
from kbsync.models import LoadedModel, Rows
from kbsync.sync import covariances as module
from kbsync.sync.corpus import covariance_documents
from kbsync.sync.covariances import Covariances, covariances_for, read_records
from kbsync.sync.home import Loading, silent
from kbsync.sync.model import ModelChoice, choose_model
from tests.e2e.commands import context
from tests.homes import COUNTRIES, SWAPPED, Editable, make_home

VALUES = {"layers": "0,1", "covariance_tokens": "2000", "sequence_length": "32"}


@pytest.fixture
def choice(small: Editable) -> ModelChoice:
    return choose_model(small.name, VALUES, loading=Loading("cpu"), corpus=small.corpus)


def having(choice: ModelChoice, **values: str) -> ModelChoice:
    return replace(choice, settings=choice.settings.with_values(values))


def never(*_: object) -> None:
    raise AssertionError("no pass is needed")


@pytest.fixture
def no_pass(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """From here on nothing may be collected."""
    with monkeypatch.context() as patch:
        patch.setattr(covariance_module, "see_keys", never)
        yield


def test_it_is_what_is_collected_and_is_found_again(
    choice: ModelChoice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = covariances_for(tmp_path, choice, silent)
    assert made.cached == frozenset()
    assert choice.corpus is not None
    expected, tokens = collect_covariances(choice.loaded, covariance_documents(choice.corpus), choice.settings)
    assert tokens == made.records[0].tokens == 2000
    monkeypatch.setattr(covariance_module, "see_keys", never)
    found = covariances_for(tmp_path, choice, silent)
    assert found.cached == {0, 1}
    assert found.records == made.records
    for layer, value in expected.items():
        assert torch.equal(made[layer], value)
        assert torch.equal(found[layer], value)
    record = found.records[1]
    assert (record.layer, record.m, record.length, record.corpus) == (1, 256, 32, choice.corpus.name)
    assert record.change is not None
    assert 0 < record.change < 0.5


@pytest.mark.usefixtures("no_pass")
def test_the_record_is_read_as_it_was_written() -> None:
    record = module.CovarianceRecord("a", 1, 2, "w", "t", "c", "x", 3, 4, None, 1.5, "0.1.0")
    assert module.CovarianceRecord.of(record.metadata()) == record
    changed = replace(record, change=0.25)
    assert module.CovarianceRecord.of(changed.metadata()) == changed
    assert changed.key == record.key


def test_only_the_layers_that_are_not_on_record_are_collected(
    choice: ModelChoice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    covariances_for(tmp_path, having(choice, layers="1"), silent)
    seen: list[list[int]] = []
    see_keys = covariance_module.see_keys

    def run(loaded: LoadedModel, rows: Rows, see: Mapping[int, Callable[[torch.Tensor], None]]) -> None:
        seen.append(list(see))
        see_keys(loaded, rows, see)

    monkeypatch.setattr(covariance_module, "see_keys", run)
    found = covariances_for(tmp_path, choice, silent)
    assert found.cached == {1}
    assert seen
    assert all(layers == [0] for layers in seen)


@pytest.mark.usefixtures("no_pass")
def test_without_corpus_or_record_it_says_what_to_do(choice: ModelChoice, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"has no corpus.* name a text .* --corpus text.txt, or get one .*import"):
        covariances_for(tmp_path, replace(choice, corpus=None), silent)


def test_without_corpus_the_one_of_the_most_tokens_on_record_is_used(choice: ModelChoice, tmp_path: Path) -> None:
    covariances_for(tmp_path, choice, silent)
    larger = covariances_for(tmp_path, having(choice, covariance_tokens="3000"), silent)
    covariances_for(tmp_path, having(choice, covariance_tokens="4000", layers="1"), silent)  # lacks a layer
    assert len(read_records(tmp_path)) == 5
    told: list[str] = []
    found = covariances_for(tmp_path, replace(choice, corpus=None), lambda phase, done, total: told.append(phase))
    assert found.records == larger.records
    assert told == ["covariance: on record, 3000 tokens of small-corpus.txt"]


def test_an_apply_reads_each_covariance_once(small: Editable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[int] = Counter()
    packed = Covariances.packed

    def counted(self: Covariances, layer: int) -> torch.Tensor:
        read[layer] += 1
        return packed(self, layer)

    monkeypatch.setattr(Covariances, "packed", counted)
    home = make_home(tmp_path / "home", P36={COUNTRIES[0]: SWAPPED[COUNTRIES[0]]})
    small.apply(home)
    assert "sweeps=2" in small.settings
    assert read == {1: 1, 2: 1}


def test_where_memory_is_short_covariances_are_not_kept(choice: ModelChoice, tmp_path: Path) -> None:
    made = covariances_for(tmp_path, having(choice, sweeps="2"), silent)
    few = Covariances(tmp_path, made.records, made.cached, room=made[0].nbytes)
    assert few[0] is few[0]
    assert few[1] is not few[1]
    assert torch.equal(few[1], made[1])


class StopError(Exception):
    """Ends a run from its progress."""


def test_a_run_that_is_stopped_goes_on_with_the_same_result(
    choice: ModelChoice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = covariances_for(tmp_path / "whole", choice, silent)
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(module, "WRITING_SHARE", float("inf"))

    def stop(phase: str, done: int, total: int) -> None:
        if done > 1000:
            raise StopError

    with pytest.raises(StopError):
        covariances_for(tmp_path / "stopped", choice, stop)
    (left,) = (tmp_path / "stopped").iterdir()
    assert left.suffix == ".checkpoint"
    begun: list[int] = []
    found = covariances_for(tmp_path / "stopped", choice, lambda phase, done, total: begun.append(done))
    assert begun[0] > 1000
    assert not left.exists()
    for layer, value in expected.items():
        assert torch.equal(found[layer], value)
        assert found.records[layer].change == expected.records[layer].change


def until_killed(name: str, corpus: Path, folder: Path) -> None:
    """Collect, in a process of its own, until that kills itself."""

    def die(phase: str, done: int, total: int) -> None:
        if done > 1000:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    module.CHECKPOINT_SECONDS, module.WRITING_SHARE = 0, float("inf")
    module.covariances_for(folder, choose_model(name, VALUES, loading=Loading("cpu"), corpus=corpus), die)


def test_a_run_that_is_killed_goes_on_with_the_same_result(
    choice: ModelChoice, small: Editable, tmp_path: Path
) -> None:
    folder = tmp_path / "tensors"
    process = context.Process(target=until_killed, args=(small.name, small.corpus, folder))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [path.suffix for path in folder.iterdir()] == [".checkpoint"]
    begun: list[int] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the killed run had it: sums in one order
    try:
        found = covariances_for(folder, choice, lambda phase, done, total: begun.append(done))
        expected = covariances_for(tmp_path / "whole", choice, silent)
    finally:
        torch.set_num_threads(threads)
    assert begun[0] > 1000
    for layer, value in expected.items():
        assert torch.equal(found[layer], value)


def test_checkpoints_take_no_more_than_their_share(choice: ModelChoice, tmp_path: Path) -> None:
    keeper = module.Checkpoint(tmp_path / "sums.checkpoint", MomentSums({0: 4}))
    assert not keeper.due()  # it is not a minute old
    keeper.sums.sums[0].see(torch.ones(2, 4))
    keeper.sums.commit(1, 2)
    keeper.written -= 120
    assert keeper.due()
    keeper.keep()
    assert keeper.path.exists()
    assert not keeper.due()
    keeper.cost, keeper.written = 60.0, keeper.written - 120  # ten minutes to wait
    assert not keeper.due()
