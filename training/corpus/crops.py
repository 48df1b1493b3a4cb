"""Random pieces of recordings for the vocoder: aligned wave, mel and f0."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from training.core.losses import MelSpectrogram
from training.corpus.data import MEL, Corpus
from training.corpus.f0 import track_f0
from tritone.audio.resample import resample

MARGIN = 4
"""Frames read around a crop, so that its mel and f0 know what comes before and after."""


@dataclass(frozen=True)
class Crop:
    """Aligned pieces of a batch: mel `[batch, mels, frames]`, f0 `[batch, frames]`, wave `[batch, hop * frames]`."""

    mel: Tensor
    f0: Tensor
    wave: Tensor
    seed: int


def long_enough(corpus: Corpus, rows: np.ndarray, frames: int) -> np.ndarray:
    """Return the rows whose recording has at least that many frames."""
    samples = np.array([corpus.utterances[i].samples for i in rows])
    return rows[samples / 16000 >= frames * MEL.hop / MEL.sample_rate + 0.01]


def crop(
    corpus: Corpus,
    rows: np.ndarray,
    frames: int,
    rng: np.random.Generator,
    mel_of: MelSpectrogram,
    device: torch.device,
) -> Crop:
    """Return a random piece of each recording, with mel and f0 as they are inside the whole."""
    wide = np.stack([piece(corpus.utterances[i].path, frames + 2 * MARGIN, rng) for i in rows])
    f0 = track(wide)[:, MARGIN:-MARGIN]
    waves = torch.from_numpy(wide).to(device)
    edge, context = MARGIN * MEL.hop, (MEL.n_fft - MEL.hop) // 2
    mel = mel_of(waves[:, edge - context : waves.shape[1] - edge + context], mirror=False)
    return Crop(mel, torch.from_numpy(f0).to(device), waves[:, edge:-edge], int(rng.integers(1 << 31)))


def piece(path: Path, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random stretch of a recording at the model's rate, float32 `[hop * frames]`, without reading the
    rest.
    """
    info = soundfile.info(str(path))
    grain = info.samplerate * MEL.hop // MEL.sample_rate
    start = grain * int(rng.integers(info.frames // grain - frames + 1))
    samples, rate = soundfile.read(str(path), grain * frames, start, dtype="float32", always_2d=True)
    wave = resample(samples.mean(axis=1), rate, MEL.sample_rate)
    return np.pad(wave, (0, max(0, MEL.hop * frames - len(wave))))[: MEL.hop * frames]


def track(wave: np.ndarray) -> np.ndarray:
    """Return f0 of waves `[batch, samples]` at the model's rate, one value per mel frame."""
    half = wave.reshape(len(wave), -1, 2).mean(axis=2)
    return track_f0(half, MEL.sample_rate // 2, MEL.hop // 2)
