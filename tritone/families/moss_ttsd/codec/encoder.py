"""From mel frames to one vector per code: two Whisper encoders, adapters, and a gated convolution over four frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tritone.families.moss_ttsd.codec.config import MEL_CHANNELS, StackConfig
from tritone.families.moss_ttsd.codec.layers import Stack


class AudioEncoder(Stack):
    """Turns mel frames `[batch, 80, frames]` at 100 Hz into hidden frames `[batch, frames / 2, size]` at 50 Hz."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__(config)
        self.conv1 = nn.Conv1d(MEL_CHANNELS, config.size, 3, padding=1)
        self.conv2 = nn.Conv1d(config.size, config.size, 3, stride=2, padding=1)

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """Return the hidden frames; `lengths` `[batch]` counts them.

        Mel frames past a row's length reach it through the convolutions alone.
        """
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel))))
        return self.transform(x.transpose(1, 2), lengths)


class Downsample(nn.Module):
    """Turns `pool` frames into one vector: a gated projection added to the frames themselves, normalised."""

    def __init__(self, size: int, pool: int) -> None:
        super().__init__()
        wide = size * pool
        self.pool = pool
        self.gate_proj = nn.Conv1d(size, wide, pool, stride=pool, bias=False)
        self.up_proj = nn.Conv1d(size, wide, pool, stride=pool, bias=False)
        self.down_proj = nn.Linear(wide, wide, bias=False)
        self.layer_norm = nn.LayerNorm(wide)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[batch, frames / pool, pool x size]` for `[batch, frames, size]`, `frames` a multiple of `pool`."""
        frames = x.transpose(1, 2)
        gated = (F.silu(self.gate_proj(frames)) * self.up_proj(frames)).transpose(1, 2)
        joined = x.unflatten(1, (-1, self.pool)).flatten(2)
        return self.layer_norm(self.down_proj(gated) + joined)


def code_lengths(mel_len: Tensor, pool: int) -> tuple[Tensor, Tensor]:
    """Return the numbers of hidden frames and of codes in `mel_len` mel frames, `[batch]` each."""
    hidden = torch.div(mel_len, 2, rounding_mode="floor")
    return hidden, torch.div(hidden, pool, rounding_mode="floor")
