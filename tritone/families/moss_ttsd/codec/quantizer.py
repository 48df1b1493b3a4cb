"""Residual vector quantisation: each level codes what the levels before it left over.

Small differences between distances decide, so the module stays in float32.
Source: Zeghidour et al., "SoundStream" (2021).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tritone.nn.weight_norm import weight_norm


class Codebook(nn.Module):
    """A table of vectors; the other buffers are running sums of its training, kept because checkpoints contain them."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.codebook: Tensor
        self.register_buffer("codebook", torch.zeros(rows, width))
        self.register_buffer("inited", torch.tensor([True]))
        self.register_buffer("cluster_size", torch.zeros(rows))
        self.register_buffer("embed_avg", torch.zeros(rows, width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return index `[batch, codes]` and value of the entry nearest to each vector `[batch, codes, width]`."""
        scores = self.codebook.square().sum(1) - 2.0 * (x @ self.codebook.t())
        index = scores.argmin(-1)
        return index, nn.functional.embedding(index, self.codebook)


class ResidualVectorQuantizer(nn.Module):
    """Turns vectors into codes and back."""

    full_precision = True

    def __init__(self, size: int, levels: int, rows: int, width: int) -> None:
        super().__init__()
        self.input_proj = weight_norm(nn.Conv1d(size, width, 1))
        self.output_proj = weight_norm(nn.Conv1d(width, size, 1))
        self.quantizers = nn.ModuleList(Codebook(rows, width) for _ in range(levels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the codes `[batch, levels, codes]` int64 of `x` `[batch, codes, size]`."""
        residual = self.enter(x)
        codes = []
        for level in self.quantizers:
            index, nearest = level(residual)
            residual = residual - nearest
            codes.append(index)
        return torch.stack(codes, dim=1)

    def enter(self, x: Tensor) -> Tensor:
        """Return `x` in the space of the codebooks, `[batch, codes, width]`."""
        return self.input_proj(x.float().transpose(1, 2)).transpose(1, 2)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the vectors `[batch, codes, size]` of codes `[batch, levels, codes]`."""
        total = torch.zeros(1, 1, self.output_proj.in_channels, device=codes.device)
        for number, level in enumerate(self.quantizers):
            total = total + nn.functional.embedding(codes[:, number], level.codebook)  # type: ignore[arg-type]
        return self.output_proj(total.transpose(1, 2)).transpose(1, 2)
