"""Losses on waveforms: spectral distances and the adversarial pair."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tritone.audio.mel import MelConfig, mel_filters

RESOLUTIONS = ((2048, 512), (1024, 256), (512, 128), (256, 64), (128, 32))
"""(window, hop) in samples of the spectrograms compared. Windows well below a mel frame (20 ms) detect a buzz at
the frame rate, which upsampling leaves behind otherwise."""


class MelSpectrogram(nn.Module):
    """`tritone.audio.mel.mel_spectrogram` in torch, with gradients: `[batch, samples]` to `[batch, mels, frames]`.

    `floor` is added to the power under the square root; its value differs between families.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, config: MelConfig, floor: float = 1e-9) -> None:
        super().__init__()
        self.config, self.floor = config, floor
        filters = mel_filters(config.sample_rate, config.n_fft, config.num_mels, config.fmin, config.fmax)
        self.register_buffer("filters", torch.from_numpy(filters.astype("float32")), persistent=False)
        self.register_buffer("window", torch.hann_window(config.win), persistent=False)

    def forward(self, wave: Tensor, mirror: bool = True) -> Tensor:
        """Return log magnitudes; without `mirror` the wave includes (n_fft - hop) / 2 samples of context per side."""
        return self.of_linear(self.linear(wave, mirror))

    def linear(self, wave: Tensor, mirror: bool = True) -> Tensor:
        """Return magnitudes before the mel filters, float32 `[batch, n_fft / 2 + 1, frames]`."""
        if mirror:
            context = (self.config.n_fft - self.config.hop) // 2
            wave = F.pad(wave[:, None], (context, context), mode="reflect")[:, 0]
        power = _power(wave, self.config.n_fft, self.config.hop, self.window, center=False)
        return torch.sqrt(power + self.floor)

    def of_linear(self, magnitudes: Tensor) -> Tensor:
        """Return log mel `[batch, mels, frames]` of such magnitudes, float32 also under autocast."""
        with torch.autocast(magnitudes.device.type, enabled=False):
            return torch.log(torch.clamp(self.filters @ magnitudes.float(), min=1e-5))


def stft_loss(generated: Tensor, recorded: Tensor) -> Tensor:
    """Return the spectral convergence plus log-magnitude distance, averaged over resolutions; waves `[batch, samples]`.

    Source: Parallel WaveGAN (Yamamoto et al., 2020).
    """
    total = generated.new_zeros(())
    for size, hop in RESOLUTIONS:
        ours, theirs = magnitude(generated, size, hop), magnitude(recorded, size, hop)
        convergence = (theirs - ours).norm() / theirs.norm().clamp(min=1e-3)
        total = total + convergence + F.l1_loss(ours.log(), theirs.log())
    return total / len(RESOLUTIONS)


def magnitude(wave: Tensor, size: int, hop: int) -> Tensor:
    """Return the magnitude spectrogram `[batch, size / 2 + 1, frames]` under a Hann window, at least 1e-3."""
    window = torch.hann_window(size, device=wave.device)
    return _power(wave, size, hop, window, center=True).clamp(min=1e-6).sqrt()


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Return the least-squares loss: recordings score towards 1, generated waves towards 0.

    Summed over discriminators.
    """
    return torch.stack(
        [(1 - r.float()).square().mean() + f.float().square().mean() for r, f in zip(real, fake, strict=True)]
    ).sum()


def generator_loss(fake: Sequence[Tensor]) -> Tensor:
    """Return the least-squares loss: generated waves score towards 1 (Mao et al., 2017); summed over discriminators."""
    return torch.stack([(1 - f.float()).square().mean() for f in fake]).sum()


def feature_loss(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the mean distance between the discriminators' hidden layers for a recording and its reconstruction.

    Summed over all layers.
    """
    pairs = [(r, f) for rs, fs in zip(real, fake, strict=True) for r, f in zip(rs, fs, strict=True)]
    return torch.stack([F.l1_loss(f, r.detach()).float() for r, f in pairs]).sum()


def _power(wave: Tensor, size: int, hop: int, window: Tensor, center: bool) -> Tensor:
    # In float32 also under autocast: squares of a 16-bit spectrum would lose quiet passages.
    with torch.autocast(wave.device.type, enabled=False):
        spectrum = torch.stft(wave.float(), size, hop, size, window, center, return_complex=True)
        return spectrum.real.square() + spectrum.imag.square()
