"""What one training step is given: a padded batch of utterances, and the random numbers of its forward pass."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Utterances padded with zeros behind their ends.

    Args:
        phones, tones, languages: ids with blanks, int64 `[batch, phones]`; phone_lengths: `[batch]`.
        bert, ja_bert, en_bert: text features `[batch, 1024, phones]`.
        speaker: int64 `[batch]`.
        spectrogram: linear magnitudes `[batch, bins, frames]`; frames: `[batch]`.
        wave: `[batch, samples]` in -1..1, hop samples for each frame.
    """

    phones: Tensor
    phone_lengths: Tensor
    tones: Tensor
    languages: Tensor
    bert: Tensor
    ja_bert: Tensor
    en_bert: Tensor
    speaker: Tensor
    spectrogram: Tensor
    frames: Tensor
    wave: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device, copied beside running work where memory is pinned."""
        return Batch(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory; a DataLoader calls this when told to pin."""
        return Batch(**{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})


@dataclass(frozen=True)
class Noise:
    """Every random number of the training forward but dropout's, in the order in which they are drawn.

    Args:
        posterior: normal `[batch, channels, frames]`.
        alignment: normal `[batch, frames, phones]`.
        duration_posterior, duration_prior: normal `[batch, 2, phones]`, of the stochastic predictor's two directions.
        slices: uniform in 0..1, `[batch]`: where in its utterance each slice starts.
    """

    posterior: Tensor
    alignment: Tensor
    duration_posterior: Tensor
    duration_prior: Tensor
    slices: Tensor

    @classmethod
    def draw(cls, batch: Batch, channels: int) -> Noise:
        """Fresh numbers from torch's generator of the batch's device; `channels` is the width of the latent frames."""
        rows, phones = batch.phones.shape
        frames, device = batch.spectrogram.shape[2], batch.spectrogram.device
        return cls(
            torch.randn(rows, channels, frames, device=device),
            torch.randn(rows, frames, phones, device=device),
            torch.randn(rows, 2, phones, device=device),
            torch.randn(rows, 2, phones, device=device),
            torch.rand(rows, device=device),
        )
