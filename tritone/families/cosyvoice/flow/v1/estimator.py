"""The network that estimates the flow's velocity in v1: a U-Net over frames that ignores padding.

Source: Matcha-TTS (Mehta et al. 2023) as CosyVoice (Du et al. 2024), section 2.3, uses it: residual convolution blocks
with the flow time mixed in, each followed by transformer blocks; halved rates in the middle, skip connections across.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tritone.families.cosyvoice.config.v1 import UnetConfig
from tritone.families.cosyvoice.flow.unet import Parts, UnetLevel, UnetResnet
from tritone.nn.activations import mish
from tritone.nn.attention import MASKED
from tritone.nn.embedding import TimeEmbedding
from tritone.nn.norm import MaskedGroupNorm

GROUPS = 8


class ConvBlock(nn.Module):
    """Convolution over three frames, group norm, Mish: `[batch, channels, frames]`, zero where `mask` is zero."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.block = nn.ModuleList([nn.Conv1d(in_channels, channels, 3, padding=1), MaskedGroupNorm(GROUPS, channels)])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return mish(self.block[1](self.block[0](x * mask), mask)) * mask


class ResnetBlock(UnetResnet):
    """Two masked convolution blocks with the flow time added between, and a residual path."""

    def __init__(self, in_channels: int, channels: int, time_dim: int) -> None:
        super().__init__(ConvBlock, in_channels, channels, time_dim)

    def forward(self, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        hidden = self.block1(x, mask) + self.mlp(time)[..., None]
        return self.block2(hidden, mask) + self.res_conv(x * mask)


class Half(nn.Module):
    """Halves the frame rate by a strided convolution over three frames: `[batch, channels, frames]`, rounded up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Double(nn.Module):
    """Doubles the frame rate by a transposed convolution: `[batch, channels, frames]` to twice the frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(channels, channels, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Level(UnetLevel):
    """A residual block and its transformer blocks, `[batch, channels, frames]`."""

    def __init__(self, config: UnetConfig, in_channels: int, channels: int, *more: nn.Module) -> None:
        super().__init__(ResnetBlock, config, in_channels, channels, -1, *more)

    def transform(self, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        """Return the output of the blocks, `[batch, channels, frames]`; they do not attend to padding."""
        bias = torch.where(mask[:, None] > 0.5, 0.0, MASKED)
        return self.attend(self[0](x, mask, time), bias, Parts([], []))


class MiddleLevel(Level):
    """A level of the blocks only."""

    def forward(self, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        return self.transform(x, mask, time)


class OuterLevel(Level):
    """The blocks and a layer after them that changes the rate; returns the outputs of both."""

    def forward(self, x: Tensor, mask: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        x = self.transform(x, mask, time)
        return x, self[2](x * mask)


class Unet(nn.Module):
    """Estimates the flow's velocity `[batch, 80, frames]` at a noisy mel, from mu, speaker and known mel."""

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        widths, last = config.channels, len(config.channels) - 1
        self.time_mlp = TimeEmbedding(config.in_channels, 4 * widths[0])
        before = (config.in_channels, *widths)
        self.down_blocks = nn.ModuleList(
            OuterLevel(config, before[i], width, Half(width) if i < last else same(width))
            for i, width in enumerate(widths)
        )
        self.mid_blocks = nn.ModuleList(
            MiddleLevel(config, widths[-1], widths[-1]) for _ in range(config.num_mid_blocks)
        )
        back = (*widths[::-1], widths[0])
        self.up_blocks = nn.ModuleList(
            OuterLevel(config, 2 * back[i], width, Double(width) if i < last else same(width))
            for i, width in enumerate(back[1:])
        )
        self.final_block = ConvBlock(widths[0], widths[0])
        self.final_proj = nn.Conv1d(widths[0], config.out_channels, 1)

    def forward(self, x: Tensor, mask: Tensor, mu: Tensor, t: Tensor, spks: Tensor, cond: Tensor) -> Tensor:
        """Return the velocity, zero where `mask` is zero.

        Args:
            x, mu, cond: `[batch, 80, frames]`; t: `[batch]` in 0..1; spks: `[batch, 80]`.
            mask: `[batch, 1, frames]`, 1 on frames that exist, which come first.
        """
        time = self.time_mlp(t)
        spread = spks[..., None].expand(-1, -1, x.shape[2])
        x = torch.cat((x, mu, spread, cond), dim=1)
        masks: list[Tensor] = [mask]
        skips: list[Tensor] = []
        for level in self.down_blocks:
            skip, x = level(x, masks[-1], time)
            skips.append(skip)
            masks.append(masks[-1][:, :, ::2])
        # The innermost level keeps its rate.
        masks.pop()
        for level in self.mid_blocks:
            x = level(x, masks[-1], time)
        for level in self.up_blocks:
            skip, inside = skips.pop(), masks.pop()
            _, x = level(torch.cat((x[:, :, : skip.shape[2]], skip), dim=1), inside, time)
        return self.final_proj(self.final_block(x, mask)) * mask


def same(channels: int) -> nn.Conv1d:
    """Return a convolution over three frames that keeps the rate."""
    return nn.Conv1d(channels, channels, 3, padding=1)
