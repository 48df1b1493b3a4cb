"""Sinusoidal embeddings of time and of distance, computed in the graph from symbolic sizes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sinusoid(values: Tensor, dim: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return sine and cosine `[n, dim // 2]` each of `values` `[n]` at wavelengths from 2 pi to 2 pi x 10^4.

    Source: Vaswani et al. 2017, section 3.5. `steps` is the number of geometric steps that reach 10^4; the
    conventions in use differ by one.
    """
    rates = torch.exp(torch.arange(dim // 2, device=values.device, dtype=torch.float32) * (-math.log(10000.0) / steps))
    angles = values.float()[:, None] * rates[None]
    return angles.sin(), angles.cos()


class TimeEmbedding(nn.Module):
    """Flow time `[batch]` in 0..1 to `[batch, width]`: sinusoids of 1000 t, then a two-layer perceptron."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.dim = dim
        self.linear_1 = nn.Linear(dim, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        angles = torch.cat(sinusoid(1000.0 * t, self.dim, self.dim // 2 - 1), dim=-1)
        return self.linear_2(nn.functional.silu(self.linear_1(angles.to(self.linear_1.weight.dtype))))


def distance_embedding(queries: int, past: int, like: Tensor) -> Tensor:
    """Return embeddings `[past + 2 queries - 1, dim]` of every distance query - key, largest (leftmost key) first.

    Sine and cosine alternate along `dim`. Source: Dai et al. 2019 (Transformer-XL), appendix B. `like` gives dim
    (its last axis), device and dtype.
    """
    span = past + 2 * queries - 1
    distances = (past + queries - 1) - torch.arange(span, device=like.device)
    sine, cosine = sinusoid(distances, like.shape[-1], like.shape[-1] // 2)
    return torch.stack((sine, cosine), dim=-1).flatten(1).to(like.dtype)
