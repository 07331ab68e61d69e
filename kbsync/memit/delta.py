"""A layer's change of weights, kept as factors, and the model in its edited state."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from kbsync.errors import EditError
from kbsync.models import LoadedModel

__all__ = ["WeightDelta", "edited"]


@dataclass(frozen=True, slots=True)
class WeightDelta:
    """The change of one layer's W_out: left [d, u] @ right [u, m], in float32."""

    left: torch.Tensor
    right: torch.Tensor

    def matrix(self) -> torch.Tensor:
        """Return the change [d, m] in float32."""
        return self.left @ self.right


@contextmanager
def edited(loaded: LoadedModel, deltas: Mapping[int, WeightDelta | torch.Tensor]) -> Iterator[None]:
    """Hold the model in its edited state: base weights plus delta, cast once; the base returns on leaving.

    `deltas` maps a layer to its change (d x m). All are checked for shape and finite values before the first
    write; raises EditError with nothing written.
    """
    matrices = {layer: d.matrix() if isinstance(d, WeightDelta) else d for layer, d in deltas.items()}
    originals = {layer: loaded.family.weight(loaded.model, layer) for layer in matrices}
    for layer, matrix in matrices.items():
        if matrix.shape != originals[layer].shape:
            raise EditError(
                f"layer {layer}: a delta of {tuple(matrix.shape)} for {tuple(originals[layer].shape)} weights"
            )
        if not torch.isfinite(matrix).all():
            raise EditError(f"layer {layer}: the delta is not finite; nothing was written")
    kept = {layer: weight.clone() for layer, weight in originals.items()}
    try:
        for layer, matrix in matrices.items():
            write(loaded, layer, kept[layer], matrix)
        yield
    finally:
        for layer, weight in kept.items():
            loaded.family.weight(loaded.model, layer).copy_(weight)


def write(loaded: LoadedModel, layer: int, base: torch.Tensor, matrix: torch.Tensor) -> None:
    """Set W_out of `layer` to base + matrix, added in float32 at least and cast to the weights' dtype."""
    weight = loaded.family.weight(loaded.model, layer)
    exact = torch.promote_types(torch.float32, base.dtype)
    weight.copy_(base.to(exact) + matrix.to(device=weight.device, dtype=exact))
