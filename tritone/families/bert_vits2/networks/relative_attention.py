"""Self-attention with learned relative positions inside a window (Shaw et al. 2018), the same for all heads.

Scores and values get a term for each distance from -window to window. The terms are two skews of a matrix, without
tables of `[queries, keys, channels]` and without indexing: a handful of exportable operators at any length.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MASKED = -1e4
"""Score of a masked key: the value the weights were trained with, and finite in fp16."""


class RelativeAttention(nn.Module):
    """Multi-head self-attention of `[batch, channels, frames]`; keys as in published checkpoints."""

    def __init__(self, channels: int, heads: int, dropout: float, window: int = 4) -> None:
        super().__init__()
        self.heads, self.window, self.masked = heads, window, MASKED
        self.scale = (channels // heads) ** -0.5
        distances = torch.randn(1, 2 * window + 1, channels // heads)
        self.emb_rel_k = nn.Parameter(distances * self.scale)
        self.emb_rel_v = nn.Parameter(torch.randn_like(distances) * self.scale)
        self.conv_q = nn.Conv1d(channels, channels, 1)
        self.conv_k = nn.Conv1d(channels, channels, 1)
        self.conv_v = nn.Conv1d(channels, channels, 1)
        self.conv_o = nn.Conv1d(channels, channels, 1)
        self.drop = nn.Dropout(dropout)
        for conv in (self.conv_q, self.conv_k, self.conv_v):
            nn.init.xavier_uniform_(conv.weight)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """Return attended frames; `visible` `[batch, 1, frames, frames]` is 1 where a query (row) may see a key."""
        query, key, value = self.split(self.conv_q(x)), self.split(self.conv_k(x)), self.split(self.conv_v(x))
        query = query * self.scale
        scores = query @ key.transpose(2, 3)
        scores = scores + spread_band(query @ self.emb_rel_k.transpose(1, 2), scores)
        weights = torch.softmax(torch.where(visible > 0, scores, self.masked), dim=-1).to(value.dtype)
        weights = self.drop(weights)
        attended = weights @ value + take_band(weights, self.window) @ self.emb_rel_v
        return self.conv_o(attended.transpose(2, 3).flatten(1, 2))

    def split(self, x: Tensor) -> Tensor:
        """Return `[batch, channels, frames]` as `[batch, heads, frames, channels / heads]`."""
        return x.reshape(x.shape[0], self.heads, -1, x.shape[2]).transpose(2, 3)


def spread_band(band: Tensor, like: Tensor) -> Tensor:
    """Return a matrix `[..., frames, frames]` whose row i has row i of `band` around column i.

    Rows are lengthened by `frames` zeros, and the flattened matrix is read in rows one element shorter: each row starts
    one column later than the row before.

    Args:
        band: `[..., frames, 2 window + 1]`.
        like: any matrix of the result's shape.
    """
    window = band.shape[3] // 2
    flat = torch.cat((band, torch.zeros_like(like)), dim=3).flatten(2)
    frames = like.shape[2]
    skewed = flat[:, :, :-frames].reshape(like.shape[0], like.shape[1], frames, -1)
    return skewed[:, :, :, window:-window]


def take_band(matrix: Tensor, window: int) -> Tensor:
    """Return the band around the diagonal, `[..., frames, 2 window + 1]`, zero outside the matrix.

    This is the inverse of `spread_band`.
    """
    padded = nn.functional.pad(matrix, (window, window)).flatten(2)
    frames = matrix.shape[2]
    flat = torch.cat((padded, torch.zeros_like(matrix[:, :, 0])), dim=2)
    return flat.reshape(matrix.shape[0], matrix.shape[1], frames, -1)[:, :, :, : 2 * window + 1]
