"""Let down projections give more than they do, as part of the gradient's graph; no weight is touched."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from kbsync.models import LoadedModel

__all__ = ["Change", "added", "matrix_change"]

Change = Callable[[torch.Tensor], torch.Tensor]
"""the input [..., m] of a down projection, in float32 -> what is added to its output, [..., d]"""


@contextmanager
def added(loaded: LoadedModel, changes: Mapping[int, Change]) -> Iterator[None]:
    """Add each layer's change to the output of its down projection; hooks are gone on leaving, whatever happened."""

    def hook(change: Change) -> Callable[..., torch.Tensor]:
        def add(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: torch.Tensor) -> torch.Tensor:
            given = args[0] if args else kwargs["hidden_states"]
            return (output.float() + change(given.float())).to(output.dtype)

        return add

    with ExitStack() as stack:
        for layer, change in changes.items():
            module = loaded.family.down_projection(loaded.model, layer)
            stack.callback(module.register_forward_hook(hook(change), with_kwargs=True).remove)
        yield


def matrix_change(matrix: torch.Tensor) -> Change:
    """Return the change that a delta [d, m] of the weights makes."""
    return lambda given: given @ matrix.T
