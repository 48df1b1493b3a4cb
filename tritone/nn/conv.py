"""Convolutions with chosen padding: causal with a state, or with different numbers of zeros on the left and right."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CausalConv1d(nn.Conv1d):
    """Convolution over the present and the past only: `[batch, in, frames]` to `[batch, out, frames]`.

    The state is the last `kernel_size - 1` inputs; zeros at the start of an utterance are the left padding.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, groups=groups)
        self.context = kernel_size - 1

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:  # type: ignore[override]
        """Return the output and the next state; without a state, those of a whole utterance."""
        if state is None:
            return self._conv_forward(nn.functional.pad(x, (self.context, 0)), self.weight, self.bias), None
        x = torch.cat((state, x), dim=2)
        return self._conv_forward(x, self.weight, self.bias), x[:, :, -self.context :]


class PaddedConv1d(nn.Conv1d):
    """Convolution of `[batch, in, frames]` with `left` and `right` zeros around it, each frame `repeat` times first.

    Both sides are padded by the larger number and the surplus is cut off: unlike padding to different widths, this is
    two nodes in an exported graph instead of ten.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        left: int = 0,
        right: int = 0,
        repeat: int = 1,
    ) -> None:
        both = max(left, right) if stride == 1 else 0
        super().__init__(in_channels, out_channels, kernel_size, stride, both, dilation)
        self.left, self.right, self.repeat = left, right, repeat

    def forward(self, x: Tensor) -> Tensor:
        if self.repeat > 1:
            x = x[..., None].expand(-1, -1, -1, self.repeat).flatten(2)
        if self.stride[0] > 1:  # a position cut off is no output of its own
            return self._conv_forward(nn.functional.pad(x, (self.left, self.right)), self.weight, self.bias)
        y = self._conv_forward(x, self.weight, self.bias)
        if self.left > self.right:
            return y[:, :, : self.right - self.left]
        return y[:, :, self.right - self.left :]
