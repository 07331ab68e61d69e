"""Rows that share what they begin with: the same states and answers as each row alone."""

import importlib

import pytest
import torch

from kbsync.memit.fast.shared_rows import SharedRows, shared_lengths, tokens_to_run
from kbsync.models import LoadedModel, capture
from kbsync.models.forward import batches_by_length
from tests.memit.test_spread import GROUPS
from tests.tiny_models import FACTS

ROWS = [(5, 9, 60, 61), (5, 9, 60, 7, 8, 9), (5, 9, 62), (40,), (41, 5, 9, 60)]
PROMPTS = ["a", "a", "a", "b", "c"]
REQUESTS = [*FACTS[:6], *(request for group in GROUPS for request in group.requests)]


def test_what_rows_of_a_class_begin_with() -> None:
    most = [len(row) - 1 for row in ROWS]
    lengths = shared_lengths(ROWS, most, PROMPTS)
    assert lengths == [2, 2, 2, 0, 3]
    assert tokens_to_run(ROWS, lengths) == (2 + 3) + (2 + 4 + 1 + 1 + 1)
    assert shared_lengths(ROWS, most, [""] * 5) == [0] * 5
    assert shared_lengths(ROWS, [1, 1, 1, 0, 1], PROMPTS) == [1, 1, 1, 0, 1]


def test_batches_hold_little_padding() -> None:
    assert list(batches_by_length([2, 5, 4, 2, 5, 1], 8192, 3, 8)) == [[1, 4], [2, 0], [3, 5]]
    assert list(batches_by_length([2, 5, 4, 2], 12, 3, 8)) == [[1], [2], [0, 3]]


@pytest.mark.parametrize("contexts", [[""] * 5, PROMPTS])
def test_states_are_those_of_each_row_alone(
    tiny: LoadedModel, contexts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("kbsync.memit.fast.shared_rows"), "TOKEN_BUDGET", 6)
    blocks = tiny.family.block_list(tiny.model)
    with torch.no_grad():
        rows = SharedRows(tiny, ROWS, [len(row) - 1 for row in ROWS], PROMPTS, contexts)
        assert len(rows.prefixes) > 1
        rows.advance(0, 0)
        rows.run_prefixes(1, 2)
        found = []
        for batch in rows.batches:
            with capture(blocks[2]) as output:
                rows.run(batch, 1, 2)
            found.append(output.value[torch.arange(len(batch.places)), batch.part.rows.lengths - 1])
        for row, state in zip(ROWS, rows.in_order(found), strict=True):
            with capture(blocks[2]) as alone:
                tiny.model(torch.tensor([row]))
            torch.testing.assert_close(state, alone.value[0, -1], rtol=1e-5, atol=1e-5)
