"""HiFi-GAN's generator (Kong et al. 2020, V1) conditioned on a speaker: latents to a waveform."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tritone.families.bert_vits2.config import DECODER_KERNEL, ModelConfig
from tritone.nn.stft import length_mask
from tritone.nn.weight_norm import weight_norm

SLOPE, LAST_SLOPE = 0.1, 0.01


class ResBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each pair added to its input."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.slope = SLOPE
        self.convs1 = nn.ModuleList(_conv(channels, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_conv(channels, kernel, 1) for _ in dilations)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2):  # noqa: B905 (strict cannot be scripted)
            hidden = _inside(dilated(F.leaky_relu(x, self.slope)), mask)
            x = x + _inside(plain(F.leaky_relu(hidden, self.slope)), mask)
        return x


class Decoder(nn.Module):
    """Maps `[batch, inter, frames]` to `[batch, 1, hop * frames]` in -1..1; keys as in published checkpoints."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = [config.upsample_initial_channel >> level for level in range(len(config.upsample_rates) + 1)]
        self.slope, self.last_slope = SLOPE, LAST_SLOPE
        self.rates, self.kernels = config.upsample_rates, len(config.resblock_kernel_sizes)
        self.conv_pre = nn.Conv1d(config.inter_channels, widths[0], DECODER_KERNEL, padding=DECODER_KERNEL // 2)
        self.ups = nn.ModuleList(
            weight_norm(nn.ConvTranspose1d(wide, narrow, kernel, rate, padding=(kernel - rate) // 2))
            for wide, narrow, kernel, rate in zip(
                widths, widths[1:], config.upsample_kernel_sizes, config.upsample_rates, strict=False
            )
        )
        self.resblocks = nn.ModuleList(
            ResBlock(width, kernel, dilations)
            for width in widths[1:]
            for kernel, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        )
        self.conv_post = nn.Conv1d(widths[-1], 1, DECODER_KERNEL, padding=DECODER_KERNEL // 2, bias=False)
        self.cond = nn.Conv1d(config.gin_channels, widths[0], 1)

    def forward(self, z: Tensor, g: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the waveform.

        Args:
            g: speaker, `[batch, gin, 1]`.
            lengths: frames of each row `[batch]`; past them every convolution reads zeros, as it would with the row
                alone, and the waveform is silent. None if all frames exist, which skips the masking.
        """
        rate = 1
        mask = _mask(lengths, z)
        x = _inside(self.conv_pre(_inside(z, mask)) + self.cond(g), mask)
        for level, up in enumerate(self.ups):
            rate *= self.rates[level]
            x = up(F.leaky_relu(x, self.slope))
            mask = _mask(None if lengths is None else lengths * rate, x)
            x = self._mean_of_blocks(level, _inside(x, mask), mask)
        return _inside(torch.tanh(self.conv_post(F.leaky_relu(x, self.last_slope))), mask)

    def _mean_of_blocks(self, level: int, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return the mean of the residual blocks of one rate."""
        total = torch.zeros_like(x)
        for index, block in enumerate(self.resblocks):
            if index // self.kernels == level:
                total = total + block(x, mask)
        return total / self.kernels


def _conv(channels: int, kernel: int, dilation: int) -> nn.Conv1d:
    return weight_norm(nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=kernel // 2 * dilation))


def _mask(lengths: Tensor | None, like: Tensor) -> Tensor | None:
    return None if lengths is None else length_mask(lengths, like)


def _inside(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask
