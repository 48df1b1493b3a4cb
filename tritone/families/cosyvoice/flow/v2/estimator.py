"""The causal network that estimates the flow's velocity in v2, for a whole utterance or a chunk with its past.

Source: CosyVoice 2 (Du et al. 2024), section 2.4, after Matcha-TTS (Mehta et al. 2023): residual convolution blocks
with the flow time mixed in, each followed by transformer blocks, and one skip connection around the middle.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tritone.errors import ConfigError
from tritone.families.cosyvoice.config.v2 import EstimatorConfig
from tritone.families.cosyvoice.flow.unet import EstimatorState, Parts, UnetLevel, UnetResnet
from tritone.nn.activations import mish
from tritone.nn.attention import attention_bias
from tritone.nn.conv import CausalConv1d
from tritone.nn.embedding import TimeEmbedding


class ConvBlock(nn.Module):
    """Causal convolution over three frames, layer norm over channels, Mish: `[batch, channels, frames]`."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.block = nn.ModuleList([CausalConv1d(in_channels, channels, 3), nn.Identity(), nn.LayerNorm(channels)])

    def forward(self, x: Tensor, parts: Parts) -> Tensor:
        x, after = self.block[0](x, parts.take_conv())
        parts.put_conv(after)
        return mish(self.block[2](x.transpose(1, 2)).transpose(1, 2))


class ResnetBlock(UnetResnet):
    """Two causal convolution blocks with the flow time added between, and a residual path."""

    def __init__(self, in_channels: int, channels: int, time_dim: int) -> None:
        super().__init__(ConvBlock, in_channels, channels, time_dim)

    def forward(self, x: Tensor, time: Tensor, parts: Parts) -> Tensor:
        hidden = self.block1(x, parts) + self.mlp(time)[..., None]
        return self.block2(hidden, parts) + self.res_conv(x)


class Level(UnetLevel):
    """A residual block and its transformer blocks, `[batch, channels, frames]`."""

    def __init__(self, config: EstimatorConfig, in_channels: int, *more: nn.Module) -> None:
        keep = config.left_chunks * config.chunk_size if config.left_chunks >= 0 else -1
        super().__init__(ResnetBlock, config, in_channels, config.channels[0], keep, *more)

    def transform(self, x: Tensor, time: Tensor, bias: Tensor, parts: Parts) -> Tensor:
        """Return the output of the blocks, `[batch, channels, frames]`."""
        return self.attend(self[0](x, time, parts), bias, parts)


class MiddleLevel(Level):
    """A level of the blocks only."""

    def forward(self, x: Tensor, time: Tensor, bias: Tensor, parts: Parts) -> Tensor:
        return self.transform(x, time, bias, parts)


class OuterLevel(Level):
    """The blocks and a convolution after them; returns the outputs of both."""

    def __init__(self, config: EstimatorConfig, in_channels: int) -> None:
        super().__init__(config, in_channels, CausalConv1d(config.channels[0], config.channels[0], 3))

    def forward(self, x: Tensor, time: Tensor, bias: Tensor, parts: Parts) -> tuple[Tensor, Tensor]:
        x = self.transform(x, time, bias, parts)
        convolved, after = self[2](x, parts.take_conv())
        parts.put_conv(after)
        return x, convolved


class Estimator(nn.Module):
    """Estimates the flow's velocity `[batch, 80, frames]` at a noisy mel, from mu, speaker and known mel."""

    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        if len(config.channels) != 1:
            raise ConfigError(
                f"flow.decoder.estimator.channels is {list(config.channels)}; the causal estimator has one level, "
                f"which needs one width"
            )
        width = config.channels[0]
        self.left_chunks = config.left_chunks
        self.time_mlp = TimeEmbedding(config.in_channels, 4 * width)
        self.down_blocks = nn.ModuleList([OuterLevel(config, config.in_channels)])
        self.mid_blocks = nn.ModuleList(MiddleLevel(config, width) for _ in range(config.num_mid_blocks))
        self.up_blocks = nn.ModuleList([OuterLevel(config, 2 * width)])
        self.final_block = ConvBlock(width, width)
        self.final_proj = nn.Conv1d(width, config.out_channels, 1)
        self.state_channels = [m.in_channels for m in self.modules() if isinstance(m, CausalConv1d)]

    def forward(
        self,
        x: Tensor,
        mu: Tensor,
        t: Tensor,
        spks: Tensor,
        cond: Tensor,
        chunk_size: Tensor,
        valid: Tensor | None = None,
        state: EstimatorState | None = None,
    ) -> tuple[Tensor, EstimatorState | None]:
        """Return the velocity and the next state.

        All convolutions are causal, so padding at the end can reach earlier frames only through attention; `valid`
        (bool `[batch, frames]`) masks it there.

        Args:
            x, mu, cond: `[batch, 80, frames]`; t: `[batch]` in 0..1; spks: `[batch, 80]`.
            chunk_size: int64 `[1]`, frames per chunk of the attention mask.
            state: from the chunk before; None for a whole utterance, which has no state.
        """
        time = self.time_mlp(t)
        past = 0
        parts = Parts([], [])
        if state is not None:
            past = state.att.shape[3]
            parts = Parts(list(state.conv.split(self.state_channels, dim=1)), list(state.att.unbind(dim=1)))
        bias = attention_bias(x.shape[2], past, chunk_size, self.left_chunks, valid)
        spread = spks[..., None].expand(-1, -1, x.shape[2])
        skip, x = self.down_blocks[0](torch.cat((x, mu, spread, cond), dim=1), time, bias, parts)
        for level in self.mid_blocks:
            x = level(x, time, bias, parts)
        _, x = self.up_blocks[0](torch.cat((x, skip), dim=1), time, bias, parts)
        velocity = self.final_proj(self.final_block(x, parts))
        if state is None:
            return velocity, None
        return velocity, EstimatorState(torch.stack(parts.next_att, dim=1), torch.cat(parts.next_conv, dim=1))
