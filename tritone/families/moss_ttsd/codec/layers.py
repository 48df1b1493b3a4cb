"""Transformer layers of the codec: Whisper's, pre-norm, with padding that does not change the result.

Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022); keys as published.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tritone.families.moss_ttsd.codec.config import StackConfig
from tritone.nn.attention import MASKED
from tritone.nn.embedding import sinusoid
from tritone.nn.stft import length_mask


class Attention(nn.Module):
    """Full self-attention; the projection of the keys has no bias."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(size, size, bias=False)
        self.v_proj = nn.Linear(size, size)
        self.q_proj = nn.Linear(size, size)
        self.out_proj = nn.Linear(size, size)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Return `[batch, frames, size]`; `bias` `[batch, 1, 1, frames]` is added to the scores of each key."""
        query, key, value = self._split(self.q_proj(x)), self._split(self.k_proj(x)), self._split(self.v_proj(x))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, x.shape[-1] // self.heads)).transpose(1, 2)


class Layer(nn.Module):
    """Attention and a two-layer perceptron, each added to its normalised input."""

    def __init__(self, size: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.self_attn = Attention(size, heads)
        self.self_attn_layer_norm = nn.LayerNorm(size)
        self.fc1 = nn.Linear(size, ffn)
        self.fc2 = nn.Linear(ffn, size)
        self.final_layer_norm = nn.LayerNorm(size)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x), bias)
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class Stack(nn.Module):
    """Layers between a table of positions and a last normalisation; zero past each row's length."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.positional_embedding: Tensor
        sine, cosine = sinusoid(torch.arange(config.positions), config.size, config.size // 2 - 1)
        self.register_buffer("positional_embedding", torch.cat([sine, cosine], dim=1))
        self.layers = nn.ModuleList(Layer(config.size, config.heads, config.ffn) for _ in range(config.layers))
        self.layer_norm = nn.LayerNorm(config.size)

    def transform(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return `[batch, frames, size]` for an input of that shape; `lengths` `[batch]` counts frames."""
        inside = length_mask(lengths, x.transpose(1, 2))
        bias = ((1.0 - inside) * MASKED)[:, None]
        x = x + self.positional_embedding[: x.shape[1]]
        for layer in self.layers:
            x = layer(x, bias)
        return self.layer_norm(x) * inside.transpose(1, 2)


class Adapter(Stack):
    """A stack with projections at the ends where its neighbours have another size."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__(config)
        same_in, same_out = config.input_size == config.size, config.output_size == config.size
        self.proj = nn.Identity() if same_in else nn.Linear(config.input_size, config.size)
        self.out_proj = nn.Identity() if same_out else nn.Linear(config.size, config.output_size)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return `[batch, frames, output_size]` for `[batch, frames, input_size]`."""
        return self.out_proj(self.transform(self.proj(x), lengths))
