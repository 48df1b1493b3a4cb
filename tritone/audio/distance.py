"""Distances between two renderings of the same speech, as numbers that a parity gate compares with a limit."""

from __future__ import annotations

import numpy as np

from tritone.audio.mel import MelConfig, mel_spectrogram
from tritone.audio.resample import resample


def log_mel_difference(reference: np.ndarray, measured: np.ndarray, rate: int) -> float:
    """Return the mean absolute difference of the log mels at 50 frames a second.

    Logarithms are natural, of magnitudes from 1e-5. The result is infinite when a sample is not finite or the lengths
    differ, because cut-off speech is close to nothing.

    Args:
        reference, measured: time-aligned waveforms `[samples]`.
        rate: their sample rate.
    """
    if reference.shape != measured.shape or not np.isfinite(measured).all():
        return float("inf")
    mel = MelConfig()
    if resample(reference, rate, mel.sample_rate).size <= mel.n_fft:
        return 0.0 if np.array_equal(reference, measured) else float(np.abs(reference - measured).max())
    first, second = (mel_spectrogram(resample(wave, rate, mel.sample_rate), mel) for wave in (reference, measured))
    return float(np.abs(first - second).mean())


def signal_to_noise(reference: np.ndarray, measured: np.ndarray) -> float:
    """Return the power of the reference over that of the difference, in dB.

    It is infinite when both are equal, and minus infinite when the lengths differ, a sample is not
    finite, or the reference is silent.
    """
    if reference.shape != measured.shape or not np.isfinite(measured).all():
        return float("-inf")
    noise = float(np.square(reference.astype(np.float64) - measured).sum())
    signal = float(np.square(reference.astype(np.float64)).sum())
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal > 0 else float("-inf")
