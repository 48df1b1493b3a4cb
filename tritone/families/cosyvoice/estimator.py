"""The causal network that estimates the flow's velocity, for a whole utterance or one chunk with its past.

Source: CosyVoice 2 (Du et al. 2024), section 2.4, after Matcha-TTS (Mehta et al. 2023): residual convolution blocks
with the flow time mixed in, each followed by transformer blocks, and one skip connection around the middle.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tritone.errors import ConfigError
from tritone.families.cosyvoice.config import EstimatorConfig
from tritone.nn.activations import Mish, mish
from tritone.nn.attention import SelfAttention, attention_bias
from tritone.nn.conv import CausalConv1d
from tritone.nn.embedding import TimeEmbedding


class EstimatorState(NamedTuple):
    """Past keys and values `[batch, layers, heads, past, 2 x head_dim]` and past inputs of all convolutions
    `[batch, channels of all, 2]`."""

    att: Tensor
    conv: Tensor


class Parts:
    """Hands each layer its part of the state, in the order the layers run, and collects the parts of the next."""

    def __init__(self, state: EstimatorState | None, channels: list[int]) -> None:
        self._conv: Iterator[Tensor | None] = repeat(None)
        self._att: Iterator[Tensor | None] = repeat(None)
        if state is not None:
            self._conv = iter(state.conv.split(channels, dim=1))
            self._att = iter(state.att.unbind(dim=1))
        self._next_conv: list[Tensor] = []
        self._next_att: list[Tensor] = []

    def convolve(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The output of a causal convolution."""
        x, after = layer(x, next(self._conv))
        self._next_conv += [] if after is None else [after]
        return x

    def attend(self, layer: nn.Module, x: Tensor, bias: Tensor) -> Tensor:
        """The output of an attention layer."""
        x, after = layer(x, bias, next(self._att))
        self._next_att += [] if after is None else [after]
        return x

    def following(self) -> EstimatorState | None:
        """The state after all layers have run; None where there was none before."""
        if not self._next_conv:
            return None
        return EstimatorState(torch.stack(self._next_att, dim=1), torch.cat(self._next_conv, dim=1))


class ConvBlock(nn.Module):
    """Causal convolution over three frames, layer norm over channels, Mish: `[batch, channels, frames]`."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.block = nn.ModuleList([CausalConv1d(in_channels, channels, 3), nn.Identity(), nn.LayerNorm(channels)])

    def forward(self, x: Tensor, parts: Parts) -> Tensor:
        x = parts.convolve(self.block[0], x)
        return mish(self.block[2](x.transpose(1, 2)).transpose(1, 2))


class ResnetBlock(nn.Module):
    """Two convolution blocks with the flow time added between, and a residual path."""

    def __init__(self, in_channels: int, channels: int, time_dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Mish(), nn.Linear(time_dim, channels))
        self.block1 = ConvBlock(in_channels, channels)
        self.block2 = ConvBlock(channels, channels)
        self.res_conv = nn.Conv1d(in_channels, channels, 1)

    def forward(self, x: Tensor, time: Tensor, parts: Parts) -> Tensor:
        hidden = self.block1(x, parts) + self.mlp(time)[..., None]
        return self.block2(hidden, parts) + self.res_conv(x)


class Gelu(nn.Module):
    """Linear layer and GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(self.proj(x))


class FeedForward(nn.Module):
    """Position-wise two-layer perceptron, four times as wide inside."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(Gelu(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention and feed-forward, each normed before and added: `[batch, frames, dim]`."""

    def __init__(self, dim: int, heads: int, head_dim: int, keep: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = SelfAttention(dim, heads, head_dim, keep)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim)

    def forward(self, x: Tensor, bias: Tensor, parts: Parts) -> Tensor:
        x = x + parts.attend(self.attn1, self.norm1(x), bias)
        return x + self.ff(self.norm3(x))


class Level(nn.ModuleList):
    """A residual block and its transformer blocks, `[batch, channels, frames]`.

    A list, so that its parts have the published key names; the outer levels have one more convolution (`self[2]`).
    """

    def __init__(self, config: EstimatorConfig, in_channels: int, outer: bool = False) -> None:
        width, heads, head_dim = config.channels[0], config.num_heads, config.attention_head_dim
        keep = config.left_chunks * config.chunk_size if config.left_chunks >= 0 else -1
        blocks = nn.ModuleList(TransformerBlock(width, heads, head_dim, keep) for _ in range(config.n_blocks))
        parts: list[nn.Module] = [ResnetBlock(in_channels, width, 4 * width), blocks]
        super().__init__([*parts, CausalConv1d(width, width, 3)] if outer else parts)

    def forward(self, x: Tensor, time: Tensor, bias: Tensor, parts: Parts) -> Tensor:
        x = self[0](x, time, parts).transpose(1, 2)
        for block in self[1].children():
            x = block(x, bias, parts)
        return x.transpose(1, 2)


class Estimator(nn.Module):
    """Velocity `[batch, 80, frames]` of the flow at noisy mel `x`, given mu, speaker and known mel."""

    def __init__(self, config: EstimatorConfig) -> None:
        super().__init__()
        if len(config.channels) != 1:
            raise ConfigError(
                f"estimator channels {list(config.channels)}: the causal estimator has one level, so exactly one width"
            )
        width = config.channels[0]
        self.left_chunks = config.left_chunks
        self.time_mlp = TimeEmbedding(config.in_channels, 4 * width)
        self.down_blocks = nn.ModuleList([Level(config, config.in_channels, outer=True)])
        self.mid_blocks = nn.ModuleList(Level(config, width) for _ in range(config.num_mid_blocks))
        self.up_blocks = nn.ModuleList([Level(config, 2 * width, outer=True)])
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
        """Velocity and next state.

        Every convolution is causal, so padding at the end reaches earlier frames through attention alone, where
        `valid` (bool `[batch, frames]`) hides it.

        Args:
            x, mu, cond: `[batch, 80, frames]`; t: `[batch]` in 0..1; spks: `[batch, 80]`.
            chunk_size: int64 `[1]`, frames per chunk of the attention mask.
            state: of the steps before; None for a whole utterance, which keeps no state.
        """
        time = self.time_mlp(t)
        past = 0 if state is None else state.att.shape[3]
        bias = attention_bias(x.shape[2], past, chunk_size, self.left_chunks, valid)
        parts = Parts(state, self.state_channels)
        spread = spks[..., None].expand(-1, -1, x.shape[2])
        down, up = self.down_blocks[0], self.up_blocks[0]
        assert isinstance(down, Level) and isinstance(up, Level)
        skip = down(torch.cat((x, mu, spread, cond), dim=1), time, bias, parts)
        x = parts.convolve(down[2], skip)
        for level in self.mid_blocks:
            x = level(x, time, bias, parts)
        x = up(torch.cat((x, skip), dim=1), time, bias, parts)
        x = parts.convolve(up[2], x)
        return self.final_proj(self.final_block(x, parts)), parts.following()
