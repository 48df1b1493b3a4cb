"""The diffusion transformer that estimates the flow's velocity in v3, for a whole utterance or a chunk with its past.

Source: DiT (Peebles & Xie 2023) with adaptive layer norm from the flow time, as F5-TTS (Chen et al. 2024) applies it to
speech. The published checkpoints were trained with rotary positions on the first attention head only: the rotation
covers the channels of one head before the split into heads. The same is done here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tritone.families.cosyvoice.config.v3 import DitConfig
from tritone.families.cosyvoice.flow.unet import EstimatorState
from tritone.nn.activations import mish
from tritone.nn.attention import attention_bias, extend, split_heads, weigh
from tritone.nn.conv import CausalConv1d
from tritone.nn.embedding import sinusoid
from tritone.nn.rotary import Rotary, rotate

TIME_CHANNELS = 256
POSITION_GROUPS = 16


class TimeEmbedding(nn.Module):
    """Flow time `[batch]` in 0..1 to `[batch, dim]`: sinusoids of 1000 t, then a two-layer perceptron."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.channels = TIME_CHANNELS
        self.time_mlp = nn.Sequential(nn.Linear(TIME_CHANNELS, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor, like: Tensor) -> Tensor:
        """Return the embedding in the dtype of `like`."""
        angles = torch.cat(sinusoid(1000.0 * t, self.channels, self.channels // 2 - 1), dim=-1)
        return self.time_mlp(angles.to(like.dtype))


class PositionConvs(nn.Module):
    """Two wide causal convolutions that give a frame its position: `[batch, dim, frames]`.

    The state is the past inputs of both, `[batch, 2 x dim, kernel - 1]`.
    """

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.ModuleList([CausalConv1d(dim, dim, kernel, POSITION_GROUPS)])
        self.conv2 = nn.ModuleList([CausalConv1d(dim, dim, kernel, POSITION_GROUPS)])

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        first: Tensor | None = None
        second: Tensor | None = None
        if state is not None:
            first, second = state.chunk(2, dim=1)
        x, first = self.conv1[0](x, first)
        x, second = self.conv2[0](mish(x), second)
        after = torch.cat((first, second), dim=1) if first is not None and second is not None else None
        return mish(x), after


class InputEmbedding(nn.Module):
    """Projects the conditions of every frame: `[batch, channels, frames]` to `[batch, frames, dim]`."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        channels = 2 * config.mel_channels + config.mu_channels + config.spk_channels
        self.proj = nn.Linear(channels, config.dim)
        self.conv_pos_embed = PositionConvs(config.dim, config.position_kernel)

    def forward(self, given: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = self.proj(given.transpose(1, 2))
        positions, state = self.conv_pos_embed(x.transpose(1, 2), state)
        return x + positions.transpose(1, 2), state


class Modulation(nn.Module):
    """Computes `parts` vectors, `[batch, 1, dim]` each, from the embedded flow time."""

    def __init__(self, dim: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(dim, parts * dim)

    def forward(self, time: Tensor) -> list[Tensor]:
        return list(self.linear(nn.functional.silu(time))[:, None].chunk(self.parts, dim=-1))


class Attention(nn.Module):
    """Multi-head self-attention of `[batch, frames, dim]`, the first head with rotary positions.

    Keys are kept unrotated, so that positions may be counted anew from the oldest of them.
    """

    def __init__(self, config: DitConfig, keep: int) -> None:
        super().__init__()
        inner = config.num_heads * config.attention_head_dim
        self.heads, self.scale, self.keep = config.num_heads, config.attention_head_dim**-0.5, keep
        self.to_q = nn.Linear(config.dim, inner)
        self.to_k = nn.Linear(config.dim, inner)
        self.to_v = nn.Linear(config.dim, inner)
        self.to_out = nn.ModuleList([nn.Linear(inner, config.dim)])

    def forward(
        self, x: Tensor, bias: Tensor, cosine: Tensor, sine: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return output and next state; `cosine` and `sine` `[past + frames, head_dim / 2]` of every key's position."""
        query = split_heads(self.to_q(x), self.heads)
        key, value = split_heads(self.to_k(x), self.heads), split_heads(self.to_v(x), self.heads)
        key, value, state = extend(key, value, state, self.keep)
        past = cosine.shape[0] - x.shape[1]
        query = torch.cat((rotate(query[:, :1], cosine[past:], sine[past:]), query[:, 1:]), dim=1)
        key = torch.cat((rotate(key[:, :1], cosine, sine), key[:, 1:]), dim=1)
        return self.to_out[0](weigh(self.scale * query @ key.transpose(2, 3) + bias, value)), state


class FeedForward(nn.Module):
    """Position-wise two-layer perceptron."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(approximate="tanh"))
        self.ff = nn.Sequential(first, nn.Identity(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.ff(x)


class Block(nn.Module):
    """Attention and feed-forward, each normed and modulated before, and gated when added: `[batch, frames, dim]`."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        keep = config.left_chunks * config.chunk_size if config.left_chunks >= 0 else -1
        self.attn_norm = Modulation(config.dim, 6)
        self.attn = Attention(config, keep)
        self.ff = FeedForward(config.dim, config.ff_mult * config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=1e-6, elementwise_affine=False)

    def forward(
        self, x: Tensor, time: Tensor, bias: Tensor, cosine: Tensor, sine: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        shift, scale, gate, shift_ff, scale_ff, gate_ff = self.attn_norm(time)
        attended, state = self.attn(self.norm(x) * (1 + scale) + shift, bias, cosine, sine, state)
        x = x + gate * attended
        return x + gate_ff * self.ff(self.norm(x) * (1 + scale_ff) + shift_ff), state


class Dit(nn.Module):
    """Estimates the flow's velocity `[batch, 80, frames]` at a noisy mel, from mu, speaker and known mel."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.left_chunks = config.left_chunks
        self.time_embed = TimeEmbedding(config.dim)
        self.input_embed = InputEmbedding(config)
        self.rotary_embed = Rotary(config.attention_head_dim)
        self.transformer_blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm_out = Modulation(config.dim, 2)
        self.norm = nn.LayerNorm(config.dim, eps=1e-6, elementwise_affine=False)
        self.proj_out = nn.Linear(config.dim, config.out_channels)

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
        """Return the velocity and the next state; the arguments are those of v2's `Estimator`.

        The convolutions are causal, so padding at the end can reach earlier frames only through attention, where
        `valid` masks it.
        """
        past = 0
        conv: Tensor | None = None
        if state is not None:
            past, conv = state.att.shape[3], state.conv
        time = self.time_embed(t, x)
        bias = attention_bias(x.shape[2], past, chunk_size, self.left_chunks, valid)
        cosine, sine = self.rotary_embed(past + x.shape[2])
        spread = spks[..., None].expand(-1, -1, x.shape[2])
        hidden, conv = self.input_embed(torch.cat((x, cond, mu, spread), dim=1), conv)
        following: list[Tensor] = []
        for index, block in enumerate(self.transformer_blocks):
            hidden, after = block(hidden, time, bias, cosine, sine, None if state is None else state.att[:, index])
            if after is not None:
                following.append(after)
        scale, shift = self.norm_out(time)
        velocity = self.proj_out(self.norm(hidden) * (1 + scale) + shift).transpose(1, 2)
        if conv is None or len(following) == 0:
            return velocity, None
        return velocity, EstimatorState(torch.stack(following, dim=1), conv)
