"""Activation functions in forms that engines and training both compute fast."""

from __future__ import annotations

from torch import Tensor, nn


def mish(x: Tensor) -> Tensor:
    """Return x tanh(softplus(x)) (Misra 2019), any shape, with one exponential instead of a logarithm and two.

    tanh(log y) = 1 - 2 / (y^2 + 1) with y = 1 + e^x. Where e^x overflows the fraction vanishes, as it should.
    """
    y = 1 + x.exp()
    return x - 2 * x / (y * y + 1)


class Mish(nn.Module):
    """`mish` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return mish(x)
