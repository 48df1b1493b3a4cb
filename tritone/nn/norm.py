"""Normalisation that padding cannot change."""

from __future__ import annotations

from torch import Tensor, nn


class MaskedGroupNorm(nn.GroupNorm):
    """Group normalisation (Wu and He 2018) of `[batch, channels, frames]` over the frames of each row that exist.

    Mean and variance are float32 sums: over a long row, those of a half overflow.
    """

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Return normalised frames; `mask` `[batch, 1, frames]` is 1 where a frame exists."""
        groups = x.float().reshape(x.shape[0], self.num_groups, self.num_channels // self.num_groups, -1)
        inside = mask[:, None].float()
        count = inside.sum(dim=(2, 3), keepdim=True) * (self.num_channels // self.num_groups)
        centred = groups - (groups * inside).sum(dim=(2, 3), keepdim=True) / count
        variance = (centred.square() * inside).sum(dim=(2, 3), keepdim=True) / count
        normed = (centred * (variance + self.eps).rsqrt()).reshape_as(x)
        return (normed * self.weight[:, None].float() + self.bias[:, None].float()).to(x.dtype)
