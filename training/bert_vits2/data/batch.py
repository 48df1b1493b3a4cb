"""The inputs of a training step: a padded batch of utterances, and the random numbers of its forward pass."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from tritone.families.bert_vits2.networks.generator import Text, TrainingNoise


@dataclass(frozen=True)
class Batch:
    """Utterances, padded with zeros after their ends.

    Args:
        phones, tones, languages: ids with blanks, int64 `[batch, phones]`.
        phone_lengths: number of phones of each row, `[batch]`.
        bert, ja_bert, en_bert: text features `[batch, 1024, phones]`.
        speaker: ids, int64 `[batch]`.
        spectrogram: linear magnitudes `[batch, bins, frames]`.
        frames: number of frames of each row, `[batch]`.
        wave: `[batch, samples]` in -1..1, `hop` samples per frame.
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
        """Return the batch on a device; from pinned memory, the copy overlaps with running work."""
        return Batch(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; a DataLoader with `pin_memory` calls this."""
        return Batch(**{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})


def text_of(batch: Batch) -> Text:
    """Return the generator's input for the batch's text."""
    return Text(
        batch.phones, batch.phone_lengths, batch.tones, batch.languages, batch.bert, batch.ja_bert, batch.en_bert
    )


def draw_noise(batch: Batch, channels: int, align: bool = True) -> TrainingNoise:
    """Return fresh random numbers for a training pass, from torch's generator of the batch's device.

    Args:
        channels: width of the latent frames.
        align: whether to draw noise for the scores of the alignment.
    """
    rows, phones = batch.phones.shape
    frames, device = batch.spectrogram.shape[2], batch.spectrogram.device
    return TrainingNoise(
        posterior=torch.randn(rows, channels, frames, device=device),
        alignment=torch.randn(rows, frames, phones, device=device) if align else None,
        duration=torch.randn(rows, 2, phones, device=device),
        duration_sample=torch.randn(rows, 2, phones, device=device),
        slices=torch.rand(rows, device=device),
    )
