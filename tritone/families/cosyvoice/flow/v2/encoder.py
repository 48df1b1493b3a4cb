"""The flow's encoder: a conformer over speech tokens, doubled in rate, then a conformer over frames.

Source: CosyVoice 2 (Du et al. 2024), section 2.3; the conformer blocks have neither convolution nor macaron halves.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tritone.families.cosyvoice.config.v1 import ConformerConfig
from tritone.families.cosyvoice.config.v2 import EncoderConfig
from tritone.nn.attention import RelativeAttention, attention_bias
from tritone.nn.conv import CausalConv1d
from tritone.nn.embedding import distance_embedding


class EncoderState(NamedTuple):
    """Past keys and values of both rates, `[batch, blocks, heads, past, 2 x head_dim]`, and past inputs of the
    convolutions, `[batch, 2 x dim, 2]`."""

    token_att: Tensor
    frame_att: Tensor
    conv: Tensor


class Embed(nn.Module):
    """Linear layer and norm, scaled by sqrt(dim): `[batch, positions, in]` to `[batch, positions, dim]`."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Linear(in_dim, dim), nn.LayerNorm(dim))
        self.scale = dim**0.5

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x) * self.scale


class Lookahead(nn.Module):
    """Residual convolutions that see `ahead` tokens of the future, then the past: `[batch, tokens + ahead, dim]` to
    `[batch, tokens, dim]`, `channels` wide between."""

    def __init__(self, dim: int, ahead: int, channels: int) -> None:
        super().__init__()
        self.ahead = ahead
        self.conv1 = nn.Conv1d(dim, channels, ahead + 1)
        self.conv2 = CausalConv1d(channels, dim, 3)

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        hidden = nn.functional.leaky_relu(self.conv1(x.transpose(1, 2)))
        hidden, state = self.conv2(hidden, state)
        return x[:, : x.shape[1] - self.ahead] + hidden.transpose(1, 2), state


class Upsample(nn.Module):
    """Every token twice, then a causal convolution: `[batch, tokens, dim]` to `[batch, 2 x tokens, dim]`.

    The state holds two tokens, which are the four frames of the convolution's past.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, 5)

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = x.transpose(1, 2)
        x = nn.functional.pad(x, (2, 0)) if state is None else torch.cat((state, x), dim=2)
        twice = x[..., None].expand(-1, -1, -1, 2).flatten(2)
        return self.conv(twice).transpose(1, 2), None if state is None else x[:, :, -2:]


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
    """Blocks of one rate, conformer ones unless told otherwise, under the key names of a list:
    `[batch, positions, dim]`."""

    def __init__(
        self, config: EncoderConfig | ConformerConfig, number: int, keep: int, block: type[nn.Module] = Block
    ) -> None:
        super().__init__(block(config, keep) for _ in range(number))
        self.left_chunks = config.left_chunks

    def forward(
        self, x: Tensor, length: Tensor | None, chunk_size: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Output and next state; this step's keys from `length` `[batch]` on (None: of all rows alike) are not seen."""
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
    """1 where a position of `x` `[batch, positions, dim]` is within its length, else 0: `[batch, positions, 1]`."""
    return (torch.arange(x.shape[1], device=x.device)[None] < length[:, None])[..., None].to(x.dtype)


class UpsampleConformerEncoder(nn.Module):
    """Token embeddings with lookahead `[batch, tokens + ahead, in]` to features `[batch, 2 x tokens, dim]`."""

    def __init__(self, config: EncoderConfig, in_dim: int, ahead: int) -> None:
        super().__init__()
        keep = config.left_chunks * config.chunk_size if config.left_chunks >= 0 else -1
        self.embed = Embed(in_dim, config.dim)
        self.pre_lookahead_layer = Lookahead(config.dim, ahead, config.dim)
        self.encoders = Blocks(config, config.num_blocks, keep)
        self.up_layer = Upsample(config.dim)
        self.up_embed = Embed(config.dim, config.dim)
        self.up_encoders = Blocks(config, config.num_up_blocks, 2 * keep)
        self.after_norm = nn.LayerNorm(config.dim)

    def forward(
        self, x: Tensor, length: Tensor, chunk_size: Tensor, state: EncoderState | None = None
    ) -> tuple[Tensor, EncoderState | None]:
        """Features and next state.

        Args:
            x: `[batch, tokens + ahead, in]`; the last `ahead` are context only.
            length: `[batch]`, how many of all these exist; the rest counts as silence (zeros) for the lookahead.
            chunk_size: int64 `[1]`, tokens per chunk of the attention mask.
            state: of the steps before; None for a whole utterance, which keeps no state.
        """
        token_att: Tensor | None = None
        frame_att: Tensor | None = None
        lookahead_state: Tensor | None = None
        up_state: Tensor | None = None
        if state is not None:
            token_att, frame_att = state.token_att, state.frame_att
            lookahead_state, up_state = state.conv.chunk(2, dim=1)
        x = self.embed(x)
        x = x * existing(x, length)
        x, lookahead_state = self.pre_lookahead_layer(x, lookahead_state)
        x, token_att = self.encoders(x, length, chunk_size, token_att)
        x, up_state = self.up_layer(x, up_state)
        x = self.up_embed(x)
        x, frame_att = self.up_encoders(x, 2 * length, 2 * chunk_size, frame_att)
        x = self.after_norm(x)
        if token_att is None or frame_att is None or lookahead_state is None or up_state is None:
            return x, None
        return x, EncoderState(token_att, frame_att, torch.cat((lookahead_state, up_state), dim=1))
