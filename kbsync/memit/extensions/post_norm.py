"""Blocks that normalise the MLP's output before they add it to the hidden state: Gemma 2 and 3, OLMo 2.

The residual r (Eqn. 20) is wanted behind that norm, the delta acts before it. With v the down projection's output at
S and g the norm's gain (an RMS norm, d dimensions), what the block adds is y = g v / rms(v): a point of an ellipsoid,
wherever v points and however long it is.
"""

import torch
from torch import nn

HALVINGS = 60
"""of the bracket of mu; float64 holds no more"""


def before_norm(norm: nn.Module, output: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """Return the change dv [d, u] of the down projection's `output` v [d, u] that comes nearest to `residual` r [d, u].

    Only the direction of v matters, so v is turned and keeps its length: norm(v + dv) is the point of the ellipsoid
    that is nearest to t = y + r. That is g w, |w|^2 = d, with w = g t / (g^2 + mu) and the mu >= 0 at which w has its
    length; where t lies inside, mu = 0 and w is stretched. What is missing then is left to the layers above and to
    further sweeps. `norm` is applied to a vector of ones for g, so that a gain kept as g - 1 (Gemma) is read right.
    (Dividing r by g / rms(v) instead misses more by far where gains differ, and grows with every sweep.)
    """
    v = output.double()
    gain = norm(torch.ones_like(output.T[:1])).double().T  # [d, 1]
    rms = v.pow(2).mean(0).sqrt()  # [u]
    t = gain * v / rms + residual
    low, high = torch.zeros_like(rms), 1 + (gain * t).norm(dim=0)  # at this mu, w is too short
    for _ in range(HALVINGS):
        mu = (low + high) / 2
        long = (gain * t / (gain**2 + mu)).pow(2).mean(0) > 1
        low, high = torch.where(long, mu, low), torch.where(long, high, mu)
    w = gain * t / (gain**2 + high)
    turned: torch.Tensor = w * rms / w.pow(2).mean(0).sqrt()
    return turned - v
