"""Rotary positions (Su et al. 2021): pairs of neighbouring channels turned by an angle that grows with position."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Cosines and sines `[positions, dim / 2]` of the angles of positions 0, 1, ...

    Angles are float32 whatever the precision of the network: at position 1000 a half has no fractions left.
    """

    full_precision = True

    def __init__(self, dim: int, base: float = 10000.0) -> None:
        super().__init__()
        self.inv_freq: Tensor
        self.register_buffer("inv_freq", base ** (-torch.arange(0, dim, 2).float() / dim))

    def forward(self, positions: int) -> tuple[Tensor, Tensor]:
        angles = torch.arange(positions, device=self.inv_freq.device)[:, None].to(self.inv_freq.dtype) * self.inv_freq
        return angles.cos(), angles.sin()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        # The rates are a constant that some checkpoints store and others leave out.
        state_dict.setdefault(f"{prefix}inv_freq", self.inv_freq)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """`x` `[..., positions, dim]` turned by the angles of its positions; in the dtype of `x`."""
    cosine, sine = cosine.to(x.dtype), sine.to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cosine - odd * sine, odd * cosine + even * sine), dim=-1).flatten(-2)
