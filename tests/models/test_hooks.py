"""Reading, replacing, stopping and resuming; and that the model is afterwards as it was."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import nn

from kbsync.models import LoadedModel, capture, last_hidden, make_rows, replace, resume, stop_after, stop_before
from tests.tiny_models import random_model

Opened = Callable[[nn.Module], AbstractContextManager[Any]]

ROWS = [[5, 9, 60, 61, 7], [8, 30], [100, 3, 3, 70]]


class Pair(nn.Module):
    """Gives a tuple, as GPT-J's blocks do."""

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, str]:
        return 2 * hidden_states, "rest"


class Chain(nn.Module):
    """Two modules in a row, and a count of how often the second ran."""

    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, nn.Identity()
        self.ran = 0

    def forward(self, x: torch.Tensor) -> Any:
        output = self.first(x)
        self.ran += 1
        return self.second(output)


def blocks(loaded: LoadedModel) -> nn.ModuleList:
    return loaded.family.block_list(loaded.model)


def block_outputs(loaded: LoadedModel) -> list[torch.Tensor]:
    """Each block's output on the first row."""
    seen: list[torch.Tensor] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    handles = [block.register_forward_hook(keep) for block in blocks(loaded)]
    loaded.model(torch.tensor(ROWS[:1]))
    for handle in handles:
        handle.remove()
    return seen


def turned(output: torch.Tensor) -> torch.Tensor:
    """Another hidden state; a shift of all dimensions would be lost in the next norm."""
    return output.roll(1, dims=-1)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_capture_reads_a_blocks_output(tiny: LoadedModel, layer: int) -> None:
    expected = block_outputs(tiny)[layer]
    with capture(blocks(tiny)[layer]) as captured:
        tiny.model(torch.tensor(ROWS[:1]))
    torch.testing.assert_close(captured.value, expected, rtol=0, atol=0)


def test_capture_reads_a_blocks_input(tiny: LoadedModel) -> None:
    expected = block_outputs(tiny)[1]
    with capture(blocks(tiny)[2], inputs=True) as captured:
        tiny.model(torch.tensor(ROWS[:1]))
    torch.testing.assert_close(captured.value, expected, rtol=0, atol=0)


def test_capture_keeps_the_last_pass(tiny: LoadedModel) -> None:
    with capture(blocks(tiny)[0]) as captured:
        tiny.model(torch.tensor([[1, 2]]))
        tiny.model(torch.tensor([[1, 2, 3]]))
    assert captured.value.shape[1] == 3


def test_capture_tells_tuples_from_tensors() -> None:
    with capture(Pair()) as pair:
        pass
    assert not hasattr(pair, "value")
    module, x = Pair(), torch.ones(2)
    with capture(module) as pair, capture(nn.Identity()) as never:
        module(hidden_states=x)
    assert pair.as_tuple
    assert torch.equal(pair.value, 2 * x)
    assert not hasattr(never, "value")
    plain = nn.Identity()
    with capture(plain) as single, capture(module, inputs=True) as by_name:
        plain(x)
        module(hidden_states=3 * x)
    assert not single.as_tuple
    assert torch.equal(by_name.value, 3 * x)


@pytest.mark.parametrize("name", ["opt", "llama"])
def test_what_a_module_was_given_flat_is_seen_by_row(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    loaded = random_model(tmp_path_factory.getbasetemp(), name)
    rows = make_rows([[5, 9, 60], [8, 30, 7]], loaded.device)
    down = loaded.family.down_projection(loaded.model, 1)
    with capture(down, inputs=True) as both:
        last_hidden(loaded, rows)
    for row, found in zip(rows.ids, both.by_row(rows.ids), strict=True):
        with capture(down, inputs=True) as single:
            loaded.model(row[None])
        torch.testing.assert_close(found, single.by_row(row[None])[0], rtol=1e-5, atol=1e-5)


def test_replace_passes_tensors_and_tuples_through_the_change() -> None:
    x = torch.ones(2)
    for module, expected in ((Pair(), (7 * x, "rest")), (nn.Identity(), 6 * x)):
        with replace(module, lambda output: output + 5):
            changed = module(x)
        if isinstance(expected, tuple):
            assert torch.equal(changed[0], expected[0])
            assert changed[1:] == expected[1:]
            assert torch.equal(module(x)[0], 2 * x)
        else:
            assert torch.equal(changed, expected)
            assert torch.equal(module(x), x)


def test_replace_reaches_the_blocks_that_follow(tiny: LoadedModel) -> None:
    rows = make_rows(ROWS, tiny.device)
    plain = last_hidden(tiny, rows)
    with replace(blocks(tiny)[1], turned):
        moved = last_hidden(tiny, rows)
    assert not torch.allclose(moved, plain, atol=1e-3)
    assert torch.equal(last_hidden(tiny, rows), plain)


def test_stop_after_ends_the_pass_there(tiny: LoadedModel) -> None:
    expected = block_outputs(tiny)[1]
    with (
        capture(blocks(tiny)[1]) as reached,
        capture(blocks(tiny)[2]) as beyond,
        stop_after(blocks(tiny)[1]),
    ):
        tiny.model(torch.tensor(ROWS[:1]))
        pytest.fail("the pass went on")
    assert torch.equal(reached.value, expected)
    assert not hasattr(beyond, "value")


def test_after_stopping_the_whole_model_runs_again() -> None:
    chain = Chain(nn.Identity())
    with stop_after(chain.first):
        chain(torch.ones(1))
    assert chain.ran == 0
    chain(torch.ones(1))
    assert chain.ran == 1


CONTEXTS: dict[str, Opened] = {
    "capture": capture,
    "replace": lambda module: replace(module, lambda output: output * 0),
    "stop_after": stop_after,
}


@pytest.mark.parametrize("name", CONTEXTS)
def test_an_exception_passes_and_leaves_no_hook(name: str) -> None:
    chain, x = Chain(nn.Identity()), torch.ones(1)
    with pytest.raises(ZeroDivisionError), CONTEXTS[name](chain.first):
        raise ZeroDivisionError
    assert torch.equal(chain(x), x)
    assert not chain.first._forward_hooks


def test_a_change_that_fails_leaves_no_hook(tiny: LoadedModel) -> None:
    rows = make_rows(ROWS, tiny.device)
    plain = last_hidden(tiny, rows)
    with pytest.raises(RuntimeError), replace(blocks(tiny)[1], lambda output: output @ torch.ones(2, 2)):
        last_hidden(tiny, rows)
    assert torch.equal(last_hidden(tiny, rows), plain)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_resume_gives_the_final_hidden_of_the_plain_forward(tiny: LoadedModel, layer: int) -> None:
    rows = make_rows(ROWS, tiny.device)
    with capture(blocks(tiny)[layer]) as captured:
        plain = last_hidden(tiny, rows)
    first = blocks(tiny)[0]
    with resume(blocks(tiny), layer, captured.as_tuple) as stand_in, capture(first) as skipped:
        assert len(blocks(tiny)) == 4
        stand_in.value = captured.value
        resumed = last_hidden(tiny, rows)
        stand_in.value = turned(captured.value)
        other = last_hidden(tiny, rows)
    assert not hasattr(skipped, "value"), "a block below ran"
    mask = rows.mask.bool()
    torch.testing.assert_close(resumed[mask], plain[mask], rtol=0, atol=1e-5)
    assert not torch.allclose(other[mask], plain[mask], atol=1e-2)


def test_resume_puts_the_blocks_back(tiny: LoadedModel) -> None:
    before = list(blocks(tiny))
    with pytest.raises(ZeroDivisionError), resume(blocks(tiny), 2, False):
        raise ZeroDivisionError
    assert [*map(id, blocks(tiny))] == [*map(id, before)]


def test_a_stand_in_answers_for_its_block_and_holds_no_weights(tiny: LoadedModel) -> None:
    block = blocks(tiny)[1]
    with resume(blocks(tiny), 1, False) as stand_in:
        name, child = next(iter(block.named_children()))
        assert getattr(stand_in, name) is child
        assert list(stand_in.parameters()) == []
        with pytest.raises(AttributeError):
            stand_in.nothing_of_the_kind  # noqa: B018


def test_stop_before_keeps_the_input_of_what_does_not_run(tiny: LoadedModel) -> None:
    down = tiny.family.down_projection(tiny.model, 1)
    ids = torch.tensor(ROWS[:1])
    with capture(down, inputs=True) as expected:
        tiny.model(ids)
    with stop_before(down) as found, capture(down) as ran:
        tiny.model(ids)
    assert torch.equal(found.value, expected.value)
    assert not hasattr(ran, "value")
    assert not down._forward_pre_hooks
