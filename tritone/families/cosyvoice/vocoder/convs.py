"""The convolutions of the vocoder's networks: centred ones, and the causal ones of v3."""

from __future__ import annotations

from torch import nn

from tritone.families.cosyvoice.vocoder.receptive_field import F0_KERNEL, F0_LOOK_RIGHT, PRE_KERNEL
from tritone.nn.conv import PaddedConv1d
from tritone.nn.weight_norm import weight_norm


class Convs:
    """Makes centred convolutions: an output depends on as many inputs before it as after it."""

    def same(self, channels: int, out: int, kernel: int, dilation: int = 1) -> nn.Conv1d:
        """Return a convolution that keeps the number of frames."""
        return weight_norm(nn.Conv1d(channels, out, kernel, dilation=dilation, padding=kernel // 2 * dilation))

    def first(self, channels: int, out: int) -> nn.Conv1d:
        """Return the generator's first convolution, over the mel."""
        return self.same(channels, out, PRE_KERNEL)

    def up(self, channels: int, out: int, kernel: int, rate: int) -> nn.Module:
        """Return a layer that makes `rate` times as many frames."""
        return weight_norm(nn.ConvTranspose1d(channels, out, kernel, rate, padding=(kernel - rate) // 2))

    def down(self, channels: int, out: int, step: int) -> nn.Conv1d:
        """Return a convolution that keeps every `step`-th frame of the source spectrum."""
        return nn.Conv1d(channels, out, 1 if step == 1 else 2 * step, step, padding=step // 2)

    def f0(self, channels: int, out: int, index: int) -> nn.Conv1d:
        """Return a layer of the f0 network."""
        return weight_norm(nn.Conv1d(channels, out, F0_KERNEL, padding=F0_KERNEL // 2))


class CausalConvs(Convs):
    """Makes convolutions over the past; only the first of a network looks ahead, in the generator by `look_right`."""

    def __init__(self, look_right: int) -> None:
        self.look_right = look_right

    def same(self, channels: int, out: int, kernel: int, dilation: int = 1) -> nn.Conv1d:
        return weight_norm(PaddedConv1d(channels, out, kernel, dilation=dilation, left=(kernel - 1) * dilation))

    def first(self, channels: int, out: int) -> nn.Conv1d:
        return weight_norm(PaddedConv1d(channels, out, self.look_right + 1, right=self.look_right))

    def up(self, channels: int, out: int, kernel: int, rate: int) -> nn.Module:
        return weight_norm(PaddedConv1d(channels, out, kernel, left=kernel - 1, repeat=rate))

    def down(self, channels: int, out: int, step: int) -> nn.Conv1d:
        if step == 1:
            return nn.Conv1d(channels, out, 1)
        return PaddedConv1d(channels, out, 2 * step, step, left=step - 1)

    def f0(self, channels: int, out: int, index: int) -> nn.Conv1d:
        if index == 0:
            return weight_norm(PaddedConv1d(channels, out, F0_LOOK_RIGHT + 1, right=F0_LOOK_RIGHT))
        return weight_norm(PaddedConv1d(channels, out, F0_KERNEL, left=F0_KERNEL - 1))
