"""The gradient of a down projection as MEND takes it (its section 3.1): a sum of rank-one factors, one for each token.

With u [m] the projection's input at a token and g [d] the loss's gradient at its output there, dL/dW = sum of g u^T.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kbsync.editors.added import Change, added
from kbsync.editors.objects import object_losses
from kbsync.models import LoadedModel, TokenizedPrompt

__all__ = ["Factors", "gradient_factors"]


@dataclass(frozen=True, slots=True)
class Factors:
    """One layer's factors at the n tokens where the gradient is not zero, in float32."""

    inputs: torch.Tensor
    """u, [n, m]"""
    gradients: torch.Tensor
    """g, [n, d]"""


def gradient_factors(
    loaded: LoadedModel, texts: Sequence[TokenizedPrompt], layers: Sequence[int]
) -> dict[int, Factors]:
    """Return each layer's factors of the gradient of sum_i -log P[target_i] (the mean over a target's tokens)."""
    seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def seeing(layer: int) -> Change:
        width = loaded.weight(layer).shape[0]

        def see(given: torch.Tensor) -> torch.Tensor:
            # Zeros that take the gradient at the output, so that no weight has to.
            leaf = torch.zeros(*given.shape[:-1], width, device=given.device, requires_grad=True)
            seen[layer] = (given.detach(), leaf)
            return leaf

        return see

    with torch.enable_grad(), added(loaded, {layer: seeing(layer) for layer in layers}):
        loss = object_losses(loaded, texts).sum()
    found = torch.autograd.grad(loss, [seen[layer][1] for layer in layers])
    return {layer: factors(seen[layer][0], gradient) for layer, gradient in zip(layers, found, strict=True)}


def factors(given: torch.Tensor, gradient: torch.Tensor) -> Factors:
    """Return the factors of all tokens [..., m] and [..., d] but those without a gradient, such as padding."""
    inputs, gradients = given.flatten(0, -2), gradient.flatten(0, -2)
    used = gradients.any(1)
    return Factors(inputs[used], gradients[used])
