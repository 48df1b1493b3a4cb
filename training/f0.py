"""Fundamental frequency of clean speech by normalised autocorrelation and a best path; NumPy, no training."""

from __future__ import annotations

import numpy as np

LOWEST, HIGHEST = 60.0, 400.0
WINDOW = 0.032
CANDIDATES = 4
VOICED = 0.5
"""Correlation at which a frame is as likely voiced as not."""
LONGER = 0.02
"""Correlation a candidate must exceed another by per octave that it is lower: multiples of a period correlate too."""
JUMP, CHANGE = 0.4, 0.12
"""Path costs of an octave between neighbouring frames, and of a change of voicing."""
QUIET = 3e-3
"""Root mean square of the window below which nothing is voiced."""


def track_f0(wave: np.ndarray, rate: int, hop: int) -> np.ndarray:
    """f0 in Hz at the centre of every hop, 0 where unvoiced, float32 `[batch, samples // hop]`.

    Source: the candidates and path of RAPT (Talkin, 1995), without its second pass.

    Args:
        wave: `[batch, samples]` at `rate`. hop: samples per frame.
    """
    frames = wave.shape[1] // hop
    if rate >= 16000:  # half the rate is enough for lags, which are interpolated
        wave = wave[:, : wave.shape[1] // 2 * 2].reshape(len(wave), -1, 2).mean(axis=2)
    correlation, loud = _correlation(wave, wave.shape[1] / (frames * hop) * rate if False else _rate(rate), frames)
    lags, scores = _candidates(correlation, _rate(rate))
    scores = np.where(loud[..., None], scores, -1.0)
    return _best_path(lags, scores, _rate(rate))


def _rate(rate: int) -> float:
    return rate / 2 if rate >= 16000 else rate
