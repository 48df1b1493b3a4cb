"""A small speaker embedder with the published interface: filterbanks in, a 192-dimensional speaker embedding out.

Sources: Snyder et al., "X-vectors" (2018) for the dilated layers and statistics pooling; Wang et al., "Additive Margin
Softmax for Face Verification" (2018) for the training objective.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIM = 192


class Embedder(nn.Module):
    """Embedding `[batch, 192]`, not normalised, of filterbanks `[batch, T, 80]` whose mean over time was removed."""

    def __init__(self, dim: int = 128) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(80 if i == 0 else dim, dim, 3, stride, padding=dilation, dilation=dilation)
            for i, (stride, dilation) in enumerate(((2, 1), (2, 1), (1, 2), (1, 4)))
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in self.layers)
        self.out = nn.Linear(2 * dim, DIM)

    def forward(self, fbank: Tensor) -> Tensor:
        x = fbank.transpose(1, 2)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(F.relu(layer(x)).transpose(1, 2)).transpose(1, 2)
        mean = x.mean(2)
        deviation = torch.sqrt(((x - mean[..., None]) ** 2).mean(2) + 1e-5)
        return self.out(torch.cat([mean, deviation], 1))


class Margin(nn.Module):
    """Additive-margin softmax loss: cosines to one direction per class, the right one handicapped by `margin`."""

    def __init__(self, classes: int, scale: float = 20.0, margin: float = 0.15) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(classes, DIM))
        self.scale, self.margin = scale, margin

    def cosines(self, embedding: Tensor) -> Tensor:
        """Return the cosines `[batch, classes]` in -1..1."""
        return F.normalize(embedding, dim=1) @ F.normalize(self.directions, dim=1).T

    def forward(self, embedding: Tensor, classes: Tensor) -> Tensor:
        cosines = self.cosines(embedding)
        handicap = self.margin * F.one_hot(classes, cosines.shape[1])
        return F.cross_entropy(self.scale * (cosines - handicap), classes)
