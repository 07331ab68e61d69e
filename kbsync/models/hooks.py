"""Read and replace what flows through a model's blocks. Every change is undone on leaving, whatever happens."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Captured:
    """What `capture` read: `value` is the tensor, `as_tuple` tells whether the module gave it inside a tuple."""

    value: torch.Tensor
    as_tuple: bool = False

    def by_row(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the value as [B, T, ...] for `ids` [B, T], where the module was given it flat (OPT's MLP), too."""
        return self.value.view(*ids.shape, *self.value.shape[-1:])


class StopForward(Exception):  # noqa: N818 - ends a pass on purpose, no error
    """Raised inside a forward pass to end it where nothing further is wanted."""


def first_tensor(output: Any) -> torch.Tensor:
    """Return a module's output, or the first of a tuple."""
    tensor: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return tensor


@contextmanager
def capture(module: nn.Module, *, inputs: bool = False) -> Iterator[Captured]:
    """Keep the last output (or first input) of `module` in the yielded `Captured`."""
    captured = Captured()

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        captured.as_tuple = isinstance(output, tuple)
        captured.value = (args[0] if args else kwargs["hidden_states"]) if inputs else first_tensor(output)

    handle = module.register_forward_hook(keep, with_kwargs=True)
    try:
        yield captured
    finally:
        handle.remove()


@contextmanager
def watch(module: nn.Module, see: Callable[[torch.Tensor], None]) -> Iterator[None]:
    """Show the first input of `module` to `see` each time that it runs; nothing is kept."""

    def show(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        see(args[0] if args else kwargs["hidden_states"])

    handle = module.register_forward_pre_hook(show, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def replace(module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Pass the output of `module` through `change`."""

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (change(output[0]), *output[1:])
        return change(output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def stop_after(module: nn.Module) -> Iterator[None]:
    """End the forward pass inside this context once `module` has run."""

    def stop(*_: Any) -> None:
        raise StopForward

    handle = module.register_forward_hook(stop)
    try:
        yield
    except StopForward:
        pass
    finally:
        handle.remove()


@contextmanager
def stop_before(module: nn.Module) -> Iterator[Captured]:
    """End the forward pass inside this context where `module` would run; the `Captured` keeps its first input."""
    captured = Captured()

    def stop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        captured.value = args[0] if args else kwargs["hidden_states"]
        raise StopForward

    handle = module.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        yield captured
    except StopForward:
        pass
    finally:
        handle.remove()


class StandIn(nn.Module):
    """Takes a block's place: passes its input on, or gives back `value` where that is set.

    Attributes that the model looks up on its blocks are those of the block that it stands for.
    """

    def __init__(self, block: nn.Module, as_tuple: bool) -> None:
        super().__init__()
        object.__setattr__(self, "block", block)  # not registered: the block's weights are no part of a stand-in
        self.as_tuple = as_tuple
        self.value: torch.Tensor | None = None

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return the stored value in the block's place."""
        output = hidden_states if self.value is None else self.value
        return (output, None) if self.as_tuple else output

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(object.__getattribute__(self, "block"), name)


@contextmanager
def resume(blocks: nn.ModuleList, layer: int, as_tuple: bool) -> Iterator[StandIn]:
    """Let the model's forward begin after block `layer`: yield the stand-in whose `value` is that block's output.

    Blocks 0 to `layer` are replaced, so none of them runs; the list keeps its length.
    """
    originals: Sequence[nn.Module] = list(blocks[: layer + 1])
    stand_ins = [StandIn(block, as_tuple) for block in originals]
    try:
        for place, stand_in in enumerate(stand_ins):
            blocks[place] = stand_in
        yield stand_ins[-1]
    finally:
        for place, block in enumerate(originals):
            blocks[place] = block
