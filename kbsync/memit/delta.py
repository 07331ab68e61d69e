"""A layer's change of weights, kept as factors, and the model in its edited state."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from kbsync.errors import EditError
from kbsync.models import HeldWeight, LoadedModel, hold_weights


@dataclass(frozen=True, slots=True)
class WeightDelta:
    """The change of one layer's W_out: left [d, u] @ right [u, m], in float32."""

    left: torch.Tensor
    right: torch.Tensor
    jitter: float = 0.0
    """what the solve added to the diagonal, as a share of the mean diagonal of lambda C"""

    def matrix(self) -> torch.Tensor:
        """Return the change [d, m] in float32."""
        return self.left @ self.right


def matrices(deltas: Mapping[int, WeightDelta | torch.Tensor]) -> dict[int, torch.Tensor]:
    """Return the change [d, m] of each layer, multiplied out."""
    return {layer: one.matrix() if isinstance(one, WeightDelta) else one for layer, one in deltas.items()}


@contextmanager
def edited(
    loaded: LoadedModel, deltas: Mapping[int, WeightDelta | torch.Tensor], *, masters: bool = False
) -> Iterator[None]:
    """Hold the model in its edited state: base weights plus delta, cast once; the base returns on leaving.

    `deltas` maps a layer to its change (d x m). With `masters`, layers stored in 16 bits compute with the float32 sum
    instead of its cast. All are checked for shape and finite values, the cast ones too, before the first write;
    raises EditError with nothing written.
    """
    whole = matrices(deltas)
    with hold_weights(loaded.family, loaded.model, whole, masters=masters) as held:
        weights = {layer: checked(held[layer], matrix, layer) for layer, matrix in whole.items()}
        for layer, weight in weights.items():
            held[layer].put(weight)
        yield


def checked(held: HeldWeight, matrix: torch.Tensor, layer: int) -> torch.Tensor:
    """Return base + matrix in the dtype that the layer computes in; raise EditError where it cannot be written."""
    if matrix.shape != held.base.shape:
        raise EditError(f"layer {layer}: a delta of {tuple(matrix.shape)} for {tuple(held.base.shape)} weights")
    if not torch.isfinite(matrix).all():
        raise EditError(f"layer {layer}: the delta is not finite; nothing was written")
    weight = with_delta(held.base, matrix).to(held.dtype)
    if not torch.isfinite(weight).all():
        name = str(held.dtype).removeprefix("torch.")
        raise EditError(
            f"layer {layer}: base plus delta exceeds the range of {name}; nothing was written. Use --dtype bfloat16 or"
            " float32"
        )
    return weight


def with_delta(base: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Return base + matrix, added in float32 at least, on the base's device."""
    exact = torch.promote_types(torch.float32, base.dtype)
    return base.to(exact) + matrix.to(device=base.device, dtype=exact)
