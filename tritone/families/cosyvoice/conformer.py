"""Transformer blocks with relative positions (Dai et al. 2019), and the encoders of v1 made of them.

The published code calls them conformers; they have neither its convolution nor its second feed-forward half.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tritone.families.cosyvoice.config.v1 import ConformerConfig
from tritone.families.cosyvoice.config.v2 import EncoderConfig
from tritone.families.cosyvoice.flow.cfm import FULL_ATTENTION
from tritone.nn.attention import RelativeAttention, SteppingAttention, attention_bias
from tritone.nn.embedding import distance_embedding


class Embed(nn.Module):
    """Linear layer and norm, scaled by sqrt(dim): `[batch, positions, in]` to `[batch, positions, dim]`."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Linear(in_dim, dim), nn.LayerNorm(dim))
        self.scale = dim**0.5

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x) * self.scale


class FeedForward(nn.Module):
    """Position-wise two-layer perceptron with SiLU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w_1 = nn.Linear(dim, hidden)
        self.w_2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(nn.functional.silu(self.w_1(x)))


class Block(nn.Module):
    """Relative self-attention and feed-forward, each normed before and added: `[batch, positions, dim]`."""

    def __init__(self, config: EncoderConfig | ConformerConfig, keep: int) -> None:
        super().__init__()
        self.self_attn = RelativeAttention(config.dim, config.attention_heads, keep)
        self.feed_forward = FeedForward(config.dim, config.linear_units)
        self.norm_ff = nn.LayerNorm(config.dim, eps=1e-12)
        self.norm_mha = nn.LayerNorm(config.dim, eps=1e-12)

    def forward(self, x: Tensor, bias: Tensor, distances: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        attended, state = self.self_attn(self.norm_mha(x), bias, distances, state)
        x = x + attended
        return x + self.feed_forward(self.norm_ff(x)), state


class Blocks(nn.ModuleList):
    """Blocks of one rate, conformer blocks by default, under the key names of a list: `[batch, positions, dim]`."""

    def __init__(
        self, config: EncoderConfig | ConformerConfig, number: int, keep: int, block: type[nn.Module] = Block
    ) -> None:
        super().__init__(block(config, keep) for _ in range(number))
        self.left_chunks = config.left_chunks

    def forward(
        self, x: Tensor, length: Tensor | None, chunk_size: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return output and next state; keys of this call from `length` `[batch]` on are masked (None: no key is)."""
        past = 0 if state is None else state.shape[3]
        valid: Tensor | None = None
        if length is not None:
            valid = torch.arange(past + x.shape[1], device=x.device)[None] < (length + past)[:, None]
        bias = attention_bias(x.shape[1], past, chunk_size, self.left_chunks, valid)
        distances = distance_embedding(x.shape[1], past, x)
        following: list[Tensor] = []
        for index, block in enumerate(self):
            x, after = block(x, bias, distances, None if state is None else state[:, index])
            if after is not None:
                following.append(after)
        return x, torch.stack(following, dim=1) if len(following) > 0 else None


def existing(x: Tensor, length: Tensor) -> Tensor:
    """Return 1 for positions of `x` `[batch, positions, dim]` within the row's length, 0 for others, as one channel."""
    return (torch.arange(x.shape[1], device=x.device)[None] < length[:, None])[..., None].to(x.dtype)


class Conformer(nn.Module):
    """Encoder from `[batch, positions, in]` to `[batch, positions, dim]`, masked in the configured chunks."""

    def __init__(self, config: ConformerConfig, in_dim: int) -> None:
        super().__init__()
        self.chunk_size = config.chunk_size or FULL_ATTENTION
        self.embed = Embed(in_dim, config.dim)
        self.encoders = Blocks(config, config.num_blocks, -1)
        self.after_norm = nn.LayerNorm(config.dim)

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """Return features of every position; no position attends to those from `length` `[batch]` on."""
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
    """Causal decoder from `[batch, positions, in]` to `[batch, positions, dim]`, of a whole sequence or a step."""

    def __init__(self, config: ConformerConfig, in_dim: int) -> None:
        super().__init__()
        self.chunk_size = config.chunk_size or FULL_ATTENTION
        self.embed = ReluEmbed(in_dim, config.dim)
        self.encoders = Blocks(config, config.num_blocks, -1, TransformerBlock)
        self.after_norm = nn.LayerNorm(config.dim)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return output and next state; without a state, of a whole sequence from its start (and no next state).

        The state is every past key and value, `[batch, blocks, heads, past, 2 x head_dim]`, empty at the start.
        """
        chunk_size = torch.full([1], self.chunk_size, dtype=torch.int64, device=x.device)
        x, state = self.encoders(self.embed(x), None, chunk_size, state)
        return self.after_norm(x), state
