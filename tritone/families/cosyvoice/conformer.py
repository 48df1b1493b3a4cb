"""Encoders of the v1 layout: transformer blocks with relative positions (Dai et al. 2019) between an input layer and a
norm.

They are called conformers where they come from; these have neither its convolution nor its second feed-forward half.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tritone.families.cosyvoice.config.v1 import ConformerConfig
from tritone.families.cosyvoice.config.v2 import EncoderConfig
from tritone.families.cosyvoice.flow.cfm import FULL_ATTENTION
from tritone.families.cosyvoice.flow.v2.encoder import Blocks, Embed
from tritone.nn.attention import SteppingAttention


class Conformer(nn.Module):
    """Encoder `[batch, positions, in]` to `[batch, positions, dim]`, its mask of the configured chunks."""

    def __init__(self, config: ConformerConfig, in_dim: int) -> None:
        super().__init__()
        self.chunk_size = config.chunk_size or FULL_ATTENTION
        self.embed = Embed(in_dim, config.dim)
        self.encoders = Blocks(config, config.num_blocks, -1)
        self.after_norm = nn.LayerNorm(config.dim)

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """Features of every position; those from `length` `[batch]` on are not seen by the others."""
        chunk_size = torch.full([1], self.chunk_size, dtype=torch.int64, device=x.device)
        x, _ = self.encoders(self.embed(x), length, chunk_size, None)
        return self.after_norm(x)


class ReluEmbed(Embed):
    """Linear layer, norm and ReLU, scaled by sqrt(dim): `[batch, positions, in]` to `[batch, positions, dim]`."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.out(x)) * self.scale


class ReluFeedForward(nn.Module):
    """Position-wise two-layer perceptron with ReLU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w_1 = nn.Linear(dim, hidden)
        self.w_2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(nn.functional.relu(self.w_1(x)))


class TransformerBlock(nn.Module):
    """Relative self-attention and feed-forward, each normed before and added: `[batch, positions, dim]`."""

    def __init__(self, config: EncoderConfig | ConformerConfig, keep: int) -> None:
        super().__init__()
        self.self_attn = SteppingAttention(config.dim, config.attention_heads, keep)
        self.feed_forward = ReluFeedForward(config.dim, config.linear_units)
        self.norm1 = nn.LayerNorm(config.dim, eps=1e-12)
        self.norm2 = nn.LayerNorm(config.dim, eps=1e-12)

    def forward(self, x: Tensor, bias: Tensor, distances: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        attended, state = self.self_attn(self.norm1(x), bias, distances, state)
        x = x + attended
        return x + self.feed_forward(self.norm2(x)), state


class Transformer(nn.Module):
    """Decoder that sees the past: `[batch, positions, in]` to `[batch, positions, dim]`, a whole or a step of it."""

    def __init__(self, config: ConformerConfig, in_dim: int) -> None:
        super().__init__()
        self.chunk_size = config.chunk_size or FULL_ATTENTION
        self.embed = ReluEmbed(in_dim, config.dim)
        self.encoders = Blocks(config, config.num_blocks, -1, TransformerBlock)
        self.after_norm = nn.LayerNorm(config.dim)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Output and next state; without a state, a whole sequence from its start (and no next state).

        The state is every past key and value, `[batch, blocks, heads, past, 2 x head_dim]`, empty at the start.
        """
        chunk_size = torch.full([1], self.chunk_size, dtype=torch.int64, device=x.device)
        x, state = self.encoders(self.embed(x), None, chunk_size, state)
        return self.after_norm(x), state
