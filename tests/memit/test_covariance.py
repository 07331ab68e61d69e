"""The covariance against the plain second moment: one row at a time, in float64, full matrices."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from kbsync.benchmarks.plain import seen_in_pass
from kbsync.errors import EditError
from kbsync.memit import MemitSettings, collect_covariances
from kbsync.memit import covariance as covariance_module
from kbsync.memit.covariance import covariance_text, key_widths
from kbsync.memit.fast import moments as moments_module
from kbsync.memit.fast.moments import LayerSum
from kbsync.models import LoadedModel, capture
from tests.tiny_models import TEXTS

LINES = TEXTS[:40]
MANY = MemitSettings(layers=(0, 2), covariance_tokens=100_000)
SHORT = MemitSettings(layers=(0, 1), sequence_length=16, covariance_tokens=700)


def plain_rows(loaded: LoadedModel, lines: Sequence[str], length: int, wanted: int) -> list[list[int]]:
    """Documents joined with the end-of-text token between them (a BOS of the same id does), cut in rows."""
    end = loaded.tokenizer.eos_token_id
    run: list[int] = []
    for line in lines:
        ids = list(loaded.tokenizer(line)["input_ids"])
        run += ids if not run or ids[0] == end else [end, *ids]
    run = run[:wanted]
    return [run[start : start + length] for start in range(0, len(run), length)]


def plain_moment(loaded: LoadedModel, rows: list[list[int]], layer: int) -> torch.Tensor:
    down = loaded.family.down_projection(loaded.model, layer)
    seen = [seen_in_pass(loaded, {"input_ids": torch.tensor([row])}, down)[0] for row in rows]
    every = torch.cat([keys.flatten(0, -2).double() for keys, _ in seen])
    return every.T @ every / len(every)


@pytest.mark.parametrize(("length", "wanted"), [(512, 100_000), (8, 100_000), (9, 301), (512, 150)])
def test_it_is_the_second_moment_over_packed_rows(tiny: LoadedModel, length: int, wanted: int) -> None:
    settings = MemitSettings(layers=(0, 2), sequence_length=length, covariance_tokens=wanted)
    found, tokens = collect_covariances(tiny, LINES, settings)
    longest = getattr(tiny.model.config, "max_position_embeddings", None) or length
    rows = plain_rows(tiny, LINES, min(length, longest), wanted)
    assert tokens == sum(map(len, rows))
    assert found.keys() == {0, 2}
    for layer, value in found.items():
        assert value.dtype == torch.float64
        assert torch.equal(value, value.T)
        expected = plain_moment(tiny, rows, layer)
        assert float((value - expected).norm() / expected.norm()) < 1e-5


def test_ten_tokens_for_each_dimension_are_the_default(known: LoadedModel) -> None:
    m = key_widths(known, (0,))[0]
    lines = (line for _ in range(5) for line in TEXTS)
    assert collect_covariances(known, lines, MemitSettings(layers=(0,)))[1] == 10 * m == 2560


def test_a_row_is_no_longer_than_the_model_takes(known: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert covariance_text(known, TEXTS, MANY.with_values({"sequence_length": 40})).length == 40
    monkeypatch.setitem(vars(known.model.config), "n_positions", 24)
    assert covariance_text(known, TEXTS, MANY.with_values({"sequence_length": 40})).length == 24


def test_how_rows_are_batched_does_not_matter(known: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, tokens = collect_covariances(known, TEXTS, SHORT)
    monkeypatch.setitem(covariance_module.TOKEN_BUDGET, "cpu", 20)
    told: list[tuple[str, int, int]] = []
    parts, again = collect_covariances(known, TEXTS, SHORT, lambda *seen: told.append(seen))
    assert tokens == again == 700
    for layer, value in whole.items():
        torch.testing.assert_close(parts[layer], value, rtol=1e-5, atol=1e-8)
    assert told[0] == ("covariance", 0, 700)
    assert told[-1][0].startswith("covariance: change since half ")
    assert told[-1][1:] == (700, 700)
    assert len(told) > 40


def test_the_sums_are_as_exact_as_float64(known: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    see = LayerSum.see

    def seen_too(self: LayerSum, keys: torch.Tensor) -> None:
        seen.append(keys.flatten(0, 1).double())
        see(self, keys)

    monkeypatch.setattr(LayerSum, "see", seen_too)
    found, _ = collect_covariances(known, TEXTS, SHORT.with_values({"layers": "1"}))
    K = torch.cat(seen)
    expected = K.T @ K / len(K)
    assert float((found[1] - expected).norm() / expected.norm()) < 1e-14


def test_space_around_documents_and_blank_ones_do_not_count(known: LoadedModel) -> None:
    settings = MemitSettings(layers=(1,), covariance_tokens=100_000)
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


def test_documents_are_read_only_as_far_as_they_are_wanted(known: LoadedModel) -> None:
    lines = iter([*TEXTS, "unread"])
    collect_covariances(known, lines, MemitSettings(layers=(1,), covariance_tokens=300))
    assert "unread" in list(lines)


def test_too_little_text_is_told(known: LoadedModel) -> None:
    tokens = len(known.tokenizer(TEXTS[0])["input_ids"])
    with pytest.raises(EditError, match=f"the corpus has {tokens} tokens; .* needs 256 at least"):
        collect_covariances(known, TEXTS[:1], MANY)
    with pytest.raises(EditError, match=r"the corpus has 255 tokens; .* needs 256 at least"):
        collect_covariances(known, TEXTS, MANY.with_values({"covariance_tokens": 255}))
    with pytest.raises(EditError, match="the corpus has 0 tokens"):
        collect_covariances(known, ["", "  "], MANY)
    assert collect_covariances(known, TEXTS, MANY.with_values({"covariance_tokens": 256}))[1] == 256


class FullDevice:
    """Fails as a device without memory does, when one layer is summed already: batches of more than `most` tokens."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.fails_at = 0
        """the only batch that fails whatever its size, counted from 1"""
        self.sizes: list[int] = []

    def __call__(self, _: Any, given: Any) -> None:
        self.sizes.append(given[0].shape[:2].numel())
        if self.sizes[-1] > self.most or len(self.sizes) == self.fails_at:
            raise torch.cuda.OutOfMemoryError


@pytest.fixture
def full(known: LoadedModel) -> Iterator[FullDevice]:
    device = FullDevice(20)
    handle = known.family.down_projection(known.model, 1).register_forward_pre_hook(device)
    yield device
    handle.remove()


def test_out_of_memory_halves_the_batch_and_counts_nothing_twice(known: LoadedModel, full: FullDevice) -> None:
    settings = SHORT.with_values({"sequence_length": 8})
    full.most = 10_000
    expected, _ = collect_covariances(known, TEXTS, settings)
    full.sizes.clear()
    full.most = 20
    found, tokens = collect_covariances(known, TEXTS, settings)
    assert (full.sizes[:4], tokens) == ([40, 16, 16, 16], 700)  # half of 40 tokens is two rows of 8
    for layer, value in found.items():
        torch.testing.assert_close(value, expected[layer], rtol=1e-5, atol=1e-8)


@pytest.fixture
def accelerated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU is treated as an accelerator: float32 sums, several batches to a commit."""
    for module in (covariance_module, moments_module):
        monkeypatch.setattr(module, "FLOAT64_DEVICES", frozenset())
    monkeypatch.setitem(covariance_module.TOKEN_BUDGET, "cpu", 24)


@pytest.mark.usefixtures("accelerated")
def test_an_accelerators_sums_differ_by_rounding_alone(known: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    found, tokens = collect_covariances(known, TEXTS, SHORT)
    monkeypatch.undo()
    expected, again = collect_covariances(known, TEXTS, SHORT)
    assert tokens == again == 700
    for layer, value in found.items():
        torch.testing.assert_close(value, expected[layer], rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("accelerated")
def test_out_of_memory_between_commits_runs_the_rows_since_then_again(known: LoadedModel, full: FullDevice) -> None:
    settings = SHORT.with_values({"sequence_length": 8})
    full.most = 10_000
    expected, _ = collect_covariances(known, TEXTS, settings)
    full.sizes.clear()
    full.fails_at = 4  # 24 tokens a batch, 43 to a commit: the second batch of the second commit
    found, tokens = collect_covariances(known, TEXTS, settings)
    assert (full.sizes[:6], tokens) == ([24, 24, 24, 24, 8, 8], 700)
    for layer, value in found.items():
        torch.testing.assert_close(value, expected[layer], rtol=1e-5, atol=1e-7)


def test_out_of_memory_for_a_single_row_is_told(known: LoadedModel, full: FullDevice) -> None:
    full.most = 10
    with pytest.raises(EditError, match=r"lacks the memory for one row of text: use a smaller --set sequence_length"):
        collect_covariances(known, TEXTS, SHORT)
