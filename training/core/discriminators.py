"""Waveform discriminators small enough for a CPU: one per period and one per spectrogram resolution."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from training.core.losses import RESOLUTIONS, magnitude
from tritone.nn.weight_norm import weight_norm

JUDGED = RESOLUTIONS[:3]
"""Spectrograms a discriminator looks at: the finer ones are for the plain loss."""

PERIODS = (2, 3, 5, 11)
SLOPE = 0.1
COMPRESSION = 0.3
"""Exponent of magnitudes before the spectrogram discriminators, so that quiet partials count as in hearing."""


class Stack(nn.Module):
    """Two-dimensional convolutions with leaky ReLUs; returns the scores and every hidden layer."""

    def __init__(self, layers: list[nn.Conv2d]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        hidden = []
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), SLOPE)
            hidden.append(x)
        return self.layers[-1](x), hidden


def period_stack(width: int) -> Stack:
    """Return the layers that look along time at every period-th sample, a quarter as wide as HiFi-GAN's."""
    widths = [1, width, 2 * width, 4 * width, 8 * width]
    strided = [nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0)) for a, b in pairwise(widths)]
    return Stack([*strided, nn.Conv2d(widths[-1], 1, (3, 1), 1, (1, 0))])


def spectrogram_stack(width: int) -> Stack:
    """Return the layers that look at time x frequency and stride over frequency."""
    return Stack(
        [
            nn.Conv2d(1, width, (3, 9), (1, 2), (1, 4)),
            nn.Conv2d(width, width, (3, 9), (1, 2), (1, 4)),
            nn.Conv2d(width, 2 * width, (3, 5), (1, 2), (1, 2)),
            nn.Conv2d(2 * width, 2 * width, (3, 3), 1, 1),
            nn.Conv2d(2 * width, 1, (3, 3), 1, 1),
        ]
    )


class Discriminators(nn.Module):
    """Returns the scores and hidden layers of every discriminator of a wave `[batch, samples]`.

    Periods after HiFi-GAN (Kong et al., 2020), resolutions after UnivNet (Jang et al., 2021).
    """

    def __init__(self, period_width: int = 16, spectrogram_width: int = 16) -> None:
        super().__init__()
        self.periods = nn.ModuleList(period_stack(period_width) for _ in PERIODS)
        self.spectrograms = nn.ModuleList(spectrogram_stack(spectrogram_width) for _ in JUDGED)

    def forward(self, wave: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        judged = [stack(fold(wave, period)) for period, stack in zip(PERIODS, self.periods, strict=True)] + [
            stack(magnitude(wave, size, hop).pow(COMPRESSION).transpose(1, 2)[:, None])
            for (size, hop), stack in zip(JUDGED, self.spectrograms, strict=True)
        ]
        return [scores for scores, _ in judged], [hidden for _, hidden in judged]


def fold(wave: Tensor, period: int) -> Tensor:
    """Return the wave as `[batch, 1, samples / period, period]`, reflect-padded to whole periods."""
    missing = -wave.shape[1] % period
    padded = F.pad(wave[:, None], (0, missing), mode="reflect") if missing else wave[:, None]
    return padded.unflatten(2, (-1, period))
