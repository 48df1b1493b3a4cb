"""How far apart two renderings of the same speech are, in numbers a parity gate can hold against a limit."""

from __future__ import annotations

import numpy as np

from tritone.audio.features import mel_spectrogram, resample
from tritone.audio.mel import MelConfig


def log_mel_difference(reference: np.ndarray, found: np.ndarray, rate: int) -> float:
    """Return mean absolute difference of log mel (natural logarithm, magnitudes from 1e-5) at 50 frames a second.

    Infinite when a sample is not finite or the lengths differ, because cut speech is not close to anything.

    Args:
        reference, found: waves `[samples]` in step with each other.
    """
    if reference.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    mel = MelConfig()
    if resample(reference, rate, mel.sample_rate).size <= mel.n_fft:
        return 0.0 if np.array_equal(reference, found) else float(np.abs(reference - found).max())
    one, other = (mel_spectrogram(resample(wave, rate, mel.sample_rate), mel) for wave in (reference, found))
    return float(np.abs(one - other).mean())


def signal_to_noise(reference: np.ndarray, found: np.ndarray) -> float:
    """Power of the reference over that of the difference, in dB; infinite when equal, minus infinite when unusable."""
    if reference.shape != found.shape or not np.isfinite(found).all():
        return float("-inf")
    noise = float(np.square(reference.astype(np.float64) - found).sum())
    signal = float(np.square(reference.astype(np.float64)).sum())
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal > 0 else float("-inf")
