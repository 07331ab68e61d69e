"""Padding, batches, hidden states: rows together give what each gives alone."""

import pytest
import torch
from transformers import DynamicCache

from kbsync.models import LoadedModel, head_log_probs, last_hidden, make_rows
from kbsync.models.forward import batches_by_length, continue_hidden, fill_cache, kept_in
from tests.tiny_models import random_model

ROWS = [[5, 9, 60, 61, 7, 20], [8], [100, 3, 3], [17, 50, 21, 4]]
CPU = torch.device("cpu")


def alone(loaded: LoadedModel, row: list[int]) -> torch.Tensor:
    """Final hidden states of one row, with no padding and no mask."""
    hidden: torch.Tensor = loaded.model.base_model(torch.tensor([row])).last_hidden_state[0]
    return hidden


def test_rows_are_padded_on_the_right_or_the_left() -> None:
    right, left = make_rows([[7, 8], [9], []], CPU), make_rows([[7, 8], [9], []], CPU, left=True)
    assert right.mask.tolist() == [[1, 1], [1, 0], [0, 0]]
    assert left.mask.tolist() == [[1, 1], [0, 1], [0, 0]]
    assert right.ids[right.mask.bool()].tolist() == left.ids[left.mask.bool()].tolist() == [7, 8, 9]
    assert right.lengths.tolist() == left.lengths.tolist() == [2, 1, 0]
    assert make_rows([[], []], CPU).ids.shape == (2, 1)


def test_padded_rows_give_what_each_gives_alone(tiny: LoadedModel) -> None:
    hidden = last_hidden(tiny, make_rows(ROWS, tiny.device))
    for row, found in zip(ROWS, hidden, strict=True):
        torch.testing.assert_close(found[: len(row)], alone(tiny, row), rtol=1e-5, atol=1e-5)


def test_log_probabilities_are_those_of_the_head(tiny: LoadedModel) -> None:
    logits = tiny.model(torch.tensor([ROWS[0]])).logits[0]
    found = head_log_probs(tiny, alone(tiny, ROWS[0]))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, logits.log_softmax(-1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(len(ROWS[0])))


def test_bounded_logits_are_read_bounded(tmp_path_factory: pytest.TempPathFactory) -> None:
    loaded = random_model(tmp_path_factory.getbasetemp(), "gemma2")
    hidden = 100 * alone(loaded, ROWS[0])
    assert float(loaded.model.lm_head(hidden).max()) > 300
    found = head_log_probs(loaded, hidden)
    assert float((found.amax(-1) - found.amin(-1)).max()) < 60.001  # between -30 and 30


@pytest.mark.parametrize("starts", [[2, 1, 0, 3], [0, 0, 0, 0]])
def test_a_suffix_goes_on_from_its_prefix(tiny: LoadedModel, starts: list[int]) -> None:
    """With prefixes of unequal length, or none."""
    prefix = make_rows([row[:start] for row, start in zip(ROWS, starts, strict=True)], tiny.device, left=True)
    suffix = make_rows([row[start:] for row, start in zip(ROWS, starts, strict=True)], tiny.device)
    hidden = continue_hidden(tiny, prefix, suffix, fill_cache(tiny, prefix))
    for row, start, found in zip(ROWS, starts, hidden, strict=True):
        expected = alone(tiny, row)[start:]
        torch.testing.assert_close(found[: len(expected)], expected, rtol=1e-5, atol=1e-5)


def test_a_cache_goes_by_the_name_that_the_forward_has(known: LoadedModel) -> None:
    class Renamed(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, cache: object = None, **more: object) -> object:
            return cache

    cache = DynamicCache(config=known.model.config)
    module = Renamed()
    assert module(torch.tensor([[1]]), **kept_in(module, cache)) is cache
    known.model.base_model(torch.tensor([[1]]), use_cache=True, **kept_in(known.model.base_model, cache))
    assert cache.get_seq_length() == 1  # with warnings as errors: no argument that is going away


@pytest.mark.parametrize("budget", [1, 7, 12, 1000])
def test_batches_hold_each_row_once_within_the_budget(budget: int) -> None:
    lengths = [3, 9, 1, 4, 4, 2, 9, 5, 1]
    batches = list(batches_by_length(lengths, budget))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[place] for place in batch)
        assert len(batch) == 1 or longest * len(batch) <= budget
    firsts = [lengths[place] for batch in batches for place in batch]
    assert firsts == sorted(lengths, reverse=True)


def test_batches_are_as_few_as_the_budget_allows() -> None:
    assert len(list(batches_by_length([4] * 10, 8))) == 5
    assert len(list(batches_by_length([4] * 10, 40))) == 1
    assert list(batches_by_length([], 8)) == []
