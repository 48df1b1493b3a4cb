"""Short-time Fourier transform and its inverse in real arithmetic, exact for every row of a ragged batch.

Both are one (transposed) convolution with a fixed basis under a periodic Hann window, frames centred on multiples of
the hop: no complex tensors and no data-dependent shapes, so every export format and engine has the operators.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def length_mask(lengths: Tensor, like: Tensor) -> Tensor:
    """1 where a position of `like` [..., size] is inside its row, else 0: `[batch, 1, size]` in the dtype of `like`."""
    positions = torch.arange(like.shape[-1], device=like.device)
    return (positions[None, None, :] < lengths[:, None, None]).to(like.dtype)


class Stft(nn.Module):
    """Analysis: `[batch, samples]` to `[batch, n_fft + 2, samples // hop + 1]`, real parts above imaginary parts.

    The signal is mirrored at both of its ends (the end of a row being its own length), as `torch.stft(center=True)`.
    """

    full_precision = True

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        window, cosine, sine = _tables(n_fft)
        self.basis: Tensor
        self.register_buffer("basis", torch.cat([cosine, -sine])[:, None].mul(window).float(), persistent=False)

    def forward(self, signal: Tensor, samples: Tensor | None = None) -> Tensor:
        """Spectrum of each row; with `samples` [batch], of each row's first so many samples (more than n_fft / 2)."""
        half = self.n_fft // 2
        if samples is None:
            padded = F.pad(signal[:, None], (half, half), mode="reflect")
        else:
            index = (torch.arange(signal.shape[1] + self.n_fft, device=signal.device) - half).abs()[None]
            last = samples[:, None].to(index.dtype) - 1
            # Positions past the mirrored end feed only frames that the caller masks; they just have to be valid.
            mirrored = (last - (index - last).abs()).clamp(min=0)
            padded = signal.gather(1, mirrored)[:, None]
        return F.conv1d(padded, self.basis, stride=self.hop)


class InverseStft(nn.Module):
    """Synthesis: magnitude and phase `[batch, n_fft / 2 + 1, frames]` to samples `[batch, (frames - 1) * hop]`.

    Windowed frames are overlap-added and divided by the sum of squared windows of the frames that exist. Half a window
    is cut off at both ends, or `trim` samples: with (n_fft - hop) / 2, every frame gives a hop.
    """

    full_precision = True

    def __init__(self, n_fft: int, hop: int, trim: int | None = None) -> None:
        super().__init__()
        self.n_fft, self.hop, self.trim = n_fft, hop, n_fft // 2 if trim is None else trim
        window, cosine, sine = _tables(n_fft)
        # A real signal's spectrum is symmetric: every bin but the first and the middle one stands for two.
        twice = torch.full((n_fft // 2 + 1, 1), 2.0, dtype=torch.float64)
        twice[0] = twice[-1] = 1.0
        basis = torch.cat([twice * cosine, -twice * sine])[:, None] * window / n_fft
        self.basis: Tensor
        self.energy: Tensor
        self.register_buffer("basis", basis.float(), persistent=False)
        self.register_buffer("energy", window.square()[None, None].float(), persistent=False)

    def forward(self, magnitude: Tensor, phase: Tensor, frames: Tensor | None = None) -> Tensor:
        """Samples; with `frames` [batch], from each row's first so many frames, followed by silence."""
        spectrum = torch.cat([magnitude * phase.cos(), magnitude * phase.sin()], dim=1)
        ones = torch.ones_like(magnitude[:, :1]) if frames is None else length_mask(frames, magnitude)
        summed = F.conv_transpose1d(spectrum * ones, self.basis, stride=self.hop)
        envelope = F.conv_transpose1d(ones, self.energy, stride=self.hop)
        signal, energy = summed[:, 0, self.trim : -self.trim], envelope[:, 0, self.trim : -self.trim]
        if frames is None:
            return signal / energy
        samples = frames * self.hop + (self.n_fft - self.hop - 2 * self.trim)
        return signal / energy.clamp(min=1e-8) * length_mask(samples, signal)[:, 0]


def _tables(n_fft: int) -> tuple[Tensor, Tensor, Tensor]:
    """Periodic Hann window [n_fft], and cosines and sines [n_fft / 2 + 1, n_fft] of every bin, in float64."""
    time = torch.arange(n_fft, dtype=torch.float64)
    angle = 2 * math.pi / n_fft * torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None] * time
    return 0.5 - 0.5 * torch.cos(2 * math.pi / n_fft * time), angle.cos(), angle.sin()
