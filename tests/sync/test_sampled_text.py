"""Text that a model writes where no corpus is named: when it is taken, what it depends on, going on after a kill."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kbsync.errors import SettingsError
from kbsync.metrics import perplexity
from kbsync.models import DeviceMemory, LoadedModel, sampled_rows
from kbsync.sync import corpus as module
from kbsync.sync.corpus import begin_token, corpus_name, documents, rows_at_once, shape
from kbsync.sync.covariances import covariances_for, kept_text, with_text
from kbsync.sync.home import Loading, silent
from kbsync.sync.model import ModelChoice, choose_model
from tests.homes import Editable
from tests.tiny_models import known, set_to

__all__ = ["known"]

VALUES = {"layers": "0,1", "covariance_tokens": "1000", "sequence_length": "32"}


@pytest.fixture
def choice(small: Editable) -> ModelChoice:
    """The small model without a corpus."""
    return choose_model(small.name, VALUES, loading=Loading("cpu"))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 40 tokens, 10 at a time."""
    monkeypatch.setattr(module, "LENGTH", 40)
    monkeypatch.setattr(module, "MOST_ROWS", 10)


def texts(choice: ModelChoice) -> list[str]:
    assert choice.corpus is not None
    return list(documents(choice.corpus))


def never(*_: object) -> None:
    raise AssertionError("no text is needed")


@pytest.mark.usefixtures("short")
def test_it_is_written_once_and_read_as_a_corpus(
    choice: ModelChoice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, int, int]] = []
    found = with_text(tmp_path, choice, lambda *step: told.append(step))
    rows, length = shape(choice)
    assert (rows, length) == (1 + 30, 40)  # 1,170 tokens in rows of 39 that the model draws
    assert len(texts(found)) == rows
    assert told[-1] == ("sampling text from the model", rows * 39, rows * 39)
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})
    made = covariances_for(tmp_path / "tensors", found, silent)
    assert {record.corpus for record in made.records.values()} == {"sampled"}
    assert made.records[0].tokens >= 900
    assert corpus_name(found.corpus or "") == "sampled"
    monkeypatch.setattr(module, "sampled_rows", never)
    assert with_text(tmp_path, choice, silent).corpus == kept_text(tmp_path, choice).corpus == found.corpus


@pytest.mark.usefixtures("short")
def test_it_is_the_models_own_language(choice: ModelChoice, tmp_path: Path) -> None:
    own = texts(with_text(tmp_path, choice, silent))
    letters = ["".join(sorted(text)) for text in own]  # the same letters, in no order of its
    assert perplexity(choice.loaded, own, 32) < 0.5 * perplexity(choice.loaded, letters, 32)


@pytest.mark.usefixtures("short")
def test_a_run_that_is_stopped_goes_on_with_the_same_text(choice: ModelChoice, tmp_path: Path) -> None:
    def stop(phase: str, done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with_text(tmp_path / "stopped", choice, stop)
    assert kept_text(tmp_path / "stopped", choice) is choice
    begun: list[int] = []
    found = with_text(tmp_path / "stopped", choice, lambda phase, done, total: begun.append(done))
    assert begun[0] > 39 * 8
    assert texts(found) == texts(with_text(tmp_path / "whole", choice, silent))
    assert [path.name for path in (tmp_path / "stopped" / "corpora").iterdir()] == [(found.corpus or Path()).name]


@pytest.mark.usefixtures("short")
def test_what_it_depends_on(choice: ModelChoice, tmp_path: Path) -> None:
    found = with_text(tmp_path, choice, silent)
    more = replace(choice, settings=choice.settings.with_values({"covariance_tokens": "1100"}))
    assert kept_text(tmp_path, more) is more
    weight = choice.loaded.weight(1)
    with set_to(weight, 2 * weight):
        assert kept_text(tmp_path, choice) is choice
    assert kept_text(tmp_path, choice).corpus == found.corpus


def test_a_named_corpus_and_covariances_of_one_come_first(
    choice: ModelChoice, small: Editable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "sampled_rows", never)
    named = replace(choice, corpus=small.corpus)
    assert with_text(tmp_path, named, silent) is named
    covariances_for(tmp_path / "tensors", named, silent)
    assert with_text(tmp_path, choice, silent) is choice


def test_without_a_token_to_begin_with_there_is_no_text(choice: ModelChoice, tmp_path: Path) -> None:
    tokenizer, end = choice.loaded.tokenizer, choice.loaded.tokenizer.eos_token_id
    tokenizer.bos_token = None
    assert begin_token(choice.loaded) == end
    tokenizer.eos_token = None
    with pytest.raises(SettingsError, match="no token that begins or ends a text"):
        with_text(tmp_path, choice, silent)


def test_tokens_are_drawn_as_often_as_they_are_likely(known: LoadedModel) -> None:
    begin = begin_token(known)
    assert begin is not None
    drawn = sampled_rows(known, begin, 1, range(2000), lambda tokens: None)[:, 0]
    with torch.no_grad():
        likely = known.model(torch.tensor([[begin]])).logits[0, -1].softmax(-1)
    counts = torch.bincount(drawn, minlength=len(likely)) / 2000
    assert float((counts - likely).abs().max()) < 0.06  # five standard deviations of a share of one half


def test_each_row_has_draws_of_its_own(known: LoadedModel) -> None:
    begin = begin_token(known)
    assert begin is not None
    rows = sampled_rows(known, begin, 12, range(4), lambda tokens: None)
    assert torch.equal(sampled_rows(known, begin, 12, [2], lambda tokens: None)[0], rows[2])
    assert len({tuple(row) for row in rows.tolist()}) > 1


def test_as_many_rows_at_once_as_memory_holds(choice: ModelChoice, monkeypatch: pytest.MonkeyPatch) -> None:
    plenty, none = (DeviceMemory("cpu", "", 10**12, free) for free in (10**12, 0))
    monkeypatch.setattr(module, "list_devices", lambda: [plenty])
    assert rows_at_once(choice.loaded, 64) == module.MOST_ROWS
    monkeypatch.setattr(module, "list_devices", lambda: [none])
    assert rows_at_once(choice.loaded, 64) == 1
