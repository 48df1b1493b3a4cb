"""Log-mel distances between two recordings."""

from __future__ import annotations

import numpy as np

from tritone.audio.mel import MelConfig, mel_spectrogram
from tritone.audio.resample import resample

DECIBELS = 20.0 / np.log(10.0)
FLOOR = np.log(1e-3)
"""Lower magnitudes are silence, whose logarithm is inaudible."""


def log_mel(wav: np.ndarray, rate: int) -> np.ndarray:
    """Return `[frames, 80]` in decibels at 50 frames per second, floored at silence; recordings are taken at 24 kHz."""
    mel = MelConfig()
    return np.maximum(mel_spectrogram(resample(wav, rate, mel.sample_rate), mel), FLOOR).T * DECIBELS


def log_mel_distance(first: np.ndarray, second: np.ndarray, rate: int) -> float:
    """Return the mean over time of the root mean square difference across bands, in dB, of two aligned recordings.

    The longer one is cut; two renderings of one request should differ in length by less than a frame.
    """
    a, b = log_mel(first, rate), log_mel(second, rate)
    frames = min(len(a), len(b))
    return float(np.sqrt(((a[:frames] - b[:frames]) ** 2).mean(axis=1)).mean())


def warped_distance(first: np.ndarray, first_rate: int, second: np.ndarray, second_rate: int) -> float:
    """Return the distance in dB along the best time alignment, for readings that differ in timing and loudness.

    Each recording's mean level is removed; dynamic time warping with unit steps (Sakoe and Chiba, 1978).
    """
    a, b = log_mel(first, first_rate), log_mel(second, second_rate)
    a, b = a - a.mean(), b - b.mean()
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2.0 * a @ b.T
    cost = np.sqrt(np.maximum(squares, 0.0) / a.shape[1])
    total = np.full((len(a) + 1, len(b) + 1), np.inf)
    steps = np.zeros(total.shape, np.int64)
    total[0, 0] = 0.0
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            options = ((total[i - 1, j - 1], steps[i - 1, j - 1]), (total[i - 1, j], steps[i - 1, j]),
                       (total[i, j - 1], steps[i, j - 1]))  # fmt: skip
            best, length = min(options, key=lambda option: option[0])
            total[i, j], steps[i, j] = best + cost[i - 1, j - 1], length + 1
    return float(total[-1, -1] / steps[-1, -1])
