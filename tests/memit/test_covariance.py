"""The covariance against the plain second moment: one line at a time, no padding."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from kbsync.errors import EditError
from kbsync.memit import MemitSettings, collect_covariances
from kbsync.memit import covariance as covariance_module
from kbsync.models import LoadedModel, capture
from tests.memit.plain import hooked
from tests.tiny_models import TEXTS

LINES = TEXTS[:40]


def chunks(loaded: LoadedModel, lines: Sequence[str], length: int, wanted: int) -> list[list[int]]:
    """Rows of `length` tokens at most, `wanted` tokens in all."""
    rows, left = [], wanted
    for line in lines:
        ids = list(loaded.tokenizer(line)["input_ids"])
        while ids and left:
            row, ids = ids[: min(length, left)], ids[min(length, left) :]
            rows.append(row)
            left -= len(row)
    return rows


def plain_moment(loaded: LoadedModel, rows: list[list[int]], layer: int) -> torch.Tensor:
    keys: list[torch.Tensor] = []

    def see(given: Any, _: Any) -> None:
        keys.append(given[0][0].double())

    with hooked(loaded.family.down_projection(loaded.model, layer), see):
        for row in rows:
            loaded.model(torch.tensor([row]))
    every = torch.cat(keys)
    return every.T @ every / len(every)


@pytest.mark.parametrize(("length", "wanted"), [(512, 100_000), (8, 100_000), (9, 301), (512, 150)])
def test_it_is_the_second_moment_over_all_tokens(tiny: LoadedModel, length: int, wanted: int) -> None:
    settings = MemitSettings(layers=(0, 2), sequence_length=length, covariance_tokens=wanted)
    found, tokens = collect_covariances(tiny, LINES, settings)
    rows = chunks(tiny, LINES, length, wanted)
    assert tokens == sum(map(len, rows))
    assert tokens == min(wanted, sum(len(tiny.tokenizer(line)["input_ids"]) for line in LINES))
    assert found.keys() == {0, 2}
    for layer, value in found.items():
        assert value.dtype == torch.float64
        expected = plain_moment(tiny, rows, layer)
        assert float((value - expected).norm() / expected.norm()) < 1e-5


def test_how_lines_are_batched_does_not_matter(known: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = MemitSettings(layers=(0, 1), sequence_length=16, covariance_tokens=700)
    whole, tokens = collect_covariances(known, TEXTS, settings)
    monkeypatch.setattr(covariance_module, "LINES_AT_ONCE", 3)
    monkeypatch.setattr(covariance_module, "TOKEN_BUDGET", 20)
    told: list[tuple[str, int, int]] = []
    parts, again = collect_covariances(known, TEXTS, settings, lambda *seen: told.append(seen))
    assert tokens == again == 700
    for layer, value in whole.items():
        torch.testing.assert_close(parts[layer], value, rtol=1e-5, atol=1e-8)
    assert told[-1] == ("covariance", 700, 700)
    assert len(told) > 10


def test_blank_lines_and_space_around_lines_do_not_count(known: LoadedModel) -> None:
    settings = MemitSettings(layers=(1,))
    spaced = [line for text in TEXTS for line in (f"  {text}\n", "", " \n")]
    found, tokens = collect_covariances(known, spaced, settings)
    expected, plain_tokens = collect_covariances(known, TEXTS, settings)
    assert tokens == plain_tokens
    assert torch.equal(found[1], expected[1])


def test_the_pass_stops_after_the_last_layer(tiny: LoadedModel) -> None:
    blocks = tiny.family.block_list(tiny.model)
    with capture(blocks[1]) as last, capture(blocks[2]) as beyond:
        collect_covariances(tiny, LINES, MemitSettings(layers=(0, 1)))
    assert hasattr(last, "value")
    assert not hasattr(beyond, "value")


def test_lines_are_read_only_as_far_as_they_are_wanted(known: LoadedModel) -> None:
    lines = iter([*TEXTS, "unread"])
    collect_covariances(known, lines, MemitSettings(layers=(1,), covariance_tokens=300))
    assert "unread" in list(lines)


def test_too_little_text_is_told(known: LoadedModel) -> None:
    settings = MemitSettings(layers=(0, 1))
    tokens = len(known.tokenizer(TEXTS[0])["input_ids"])
    with pytest.raises(EditError, match=f"the corpus has {tokens} tokens; .* needs 256 at least"):
        collect_covariances(known, TEXTS[:1], settings)
    with pytest.raises(EditError, match=r"the corpus has 255 tokens; .* needs 256 at least"):
        collect_covariances(known, TEXTS, settings.with_values({"covariance_tokens": 255}))
    with pytest.raises(EditError, match="the corpus has 0 tokens"):
        collect_covariances(known, ["", "  "], settings)
    assert collect_covariances(known, TEXTS, settings.with_values({"covariance_tokens": 256}))[1] == 256
