"""The flow's encoder in v2: a conformer over speech tokens, twice the rate, then a conformer over frames.

Source: CosyVoice 2 (Du et al. 2024), section 2.3; the conformer blocks have neither convolution nor macaron halves.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tritone.families.cosyvoice.config.v2 import EncoderConfig
from tritone.families.cosyvoice.conformer import Blocks, Embed, existing
from tritone.families.cosyvoice.flow.lookahead import Lookahead


class EncoderState(NamedTuple):
    """Past keys and values of both rates, `[batch, blocks, heads, past, 2 x head_dim]`, and past inputs of the
    convolutions, `[batch, 2 x dim, 2]`."""

    token_att: Tensor
    frame_att: Tensor
    conv: Tensor


class Upsample(nn.Module):
    """Repeats every token, then a causal convolution: `[batch, tokens, dim]` to `[batch, 2 x tokens, dim]`.

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


class UpsampleConformerEncoder(nn.Module):
    """Turns token embeddings with lookahead `[batch, tokens + ahead, in]` into features `[batch, 2 x tokens, dim]`."""

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
        """Return features and the next state.

        Args:
            x: `[batch, tokens + ahead, in]`; the last `ahead` are context only.
            length: `[batch]`, the number of these that exist; the lookahead takes the rest as silence (zeros).
            chunk_size: int64 `[1]`, tokens per chunk of the attention mask.
            state: from the chunk before; None for a whole utterance, which has no state.
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
