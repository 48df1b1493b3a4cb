"""The speaker from a recording, for models without a table of speakers (Skerry-Ryan et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tritone.nn.stft import length_mask
from tritone.nn.weight_norm import weight_norm

WIDTHS = (32, 32, 64, 64, 128, 128)
HIDDEN = 128


class ReferenceEncoder(nn.Module):
    """Maps linear spectrograms `[batch, bins, frames]` to speakers `[batch, gin]`; keys as in published checkpoints."""

    def __init__(self, spec_channels: int, gin: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(before, after, 3, stride=2, padding=1))
            for before, after in zip((1, *WIDTHS), WIDTHS, strict=False)
        )
        bins = spec_channels
        for _ in WIDTHS:
            bins = (bins - 1) // 2 + 1
        self.gru = nn.GRU(WIDTHS[-1] * bins, HIDDEN, batch_first=True)
        self.proj = nn.Linear(HIDDEN, gin)

    def forward(self, spec: Tensor, lengths: Tensor) -> Tensor:
        """Return the speaker; each row is read up to its own length (`[batch]`), so its padding does not matter."""
        mask = length_mask(lengths, spec).transpose(1, 2)[:, None]
        x = spec.transpose(1, 2)[:, None] * mask
        for conv in self.convs:
            x = torch.relu(conv(x))
            lengths = torch.div(lengths - 1, 2, rounding_mode="floor") + 1
            x = x * length_mask(lengths, x[:, 0, :, 0]).transpose(1, 2)[:, None]
        states, _ = self.gru(x.transpose(1, 2).flatten(2))
        last = (lengths - 1).long()[:, None, None].expand(-1, -1, states.shape[2])
        return self.proj(states.gather(1, last)[:, 0])
