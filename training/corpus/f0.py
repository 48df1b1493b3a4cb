"""Fundamental frequency of clean speech by normalised autocorrelation and a best path, in NumPy."""

from __future__ import annotations

import numpy as np

LOWEST, HIGHEST = 60.0, 400.0
WINDOW = 0.032
CANDIDATES = 4
VOICED = 0.5
"""Correlation at which a frame is as likely voiced as not."""
LOWER = 0.02
"""What a candidate loses per octave that it is lower: multiples of a period correlate as well as the period."""
JUMP, CHANGE = 0.4, 0.12
"""Path costs of an octave between neighbouring frames, and of a change of voicing."""
QUIET = 2e-3
"""Root mean square of the window below which nothing is voiced."""


def track_f0(wave: np.ndarray, rate: int, hop: int) -> np.ndarray:
    """Return f0 in Hz at the centre of every hop, 0 where unvoiced, float32 `[batch, samples // hop]`.

    Source: the candidates and best path of RAPT (Talkin, 1995), in one pass.

    Args:
        wave: `[batch, samples]` at `rate`; 12 kHz is plenty. hop: samples per frame.
    """
    correlation, loud = _correlation(wave, rate, hop)
    lags, scores = _candidates(correlation, rate)
    scores[~loud] = -1.0
    return _best_path(rate / lags, scores)


def _correlation(wave: np.ndarray, rate: int, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlation of each window with itself delayed by 0 to `lags` samples, `[batch, frames, lags]`,
    and where it is loud.
    """
    window, longest = int(WINDOW * rate), int(rate / LOWEST) + 2
    span = window + longest
    frames = wave.shape[1] // hop
    # Window and shifted window straddle the frame's centre for lags in the middle of the range.
    before = (window + longest // 2) // 2
    padded = np.pad(wave, ((0, 0), (before, span)))
    start = np.arange(frames) * hop + hop // 2
    pieces = np.lib.stride_tricks.sliding_window_view(padded, span, axis=1)[:, start].astype(np.float64)
    pieces = pieces - pieces.mean(axis=2, keepdims=True)
    size = 1 << (span - 1).bit_length()
    spectrum = np.fft.rfft(pieces, size)
    product = np.fft.irfft(spectrum * np.fft.rfft(pieces[..., :window], size).conj(), size)[..., :longest]
    summed = np.pad(np.cumsum(pieces**2, axis=2), ((0, 0), (0, 0), (1, 0)))
    energy = summed[..., window : window + longest] - summed[..., :longest]
    loud = energy[..., 0] > QUIET**2 * window
    return product / np.sqrt(energy * energy[..., :1] + 1e-12), loud


def _candidates(correlation: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Return lags in samples, interpolated, and scores of the best peaks of each frame, `[batch, frames,
    CANDIDATES]`.
    """
    shortest = int(rate / HIGHEST)
    left, middle, right = (correlation[..., shortest + i : correlation.shape[2] - 2 + i] for i in range(3))
    lags = np.arange(shortest + 1, shortest + 1 + middle.shape[2])
    peaks = (middle >= left) & (middle > right)
    scores = np.where(peaks, middle - LOWER * np.log2(lags / lags[0]), -1.0)
    best = np.argsort(-scores, axis=2)[..., :CANDIDATES]
    curve = np.minimum(left - 2 * middle + right, -1e-9)
    offset = np.clip((left - right) / (2 * curve), -0.5, 0.5)
    return np.take_along_axis(lags + offset, best, axis=2), np.take_along_axis(scores, best, axis=2)


def _best_path(f0: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the cheapest sequence through candidates `[batch, frames, CANDIDATES]` or silence, float32 `[batch,
    frames]`.
    """
    batch, frames, _ = f0.shape
    cost = np.concatenate([1 - scores, np.full((batch, frames, 1), 1 - VOICED)], axis=2)
    pitch = np.concatenate([np.log2(f0), np.zeros((batch, frames, 1))], axis=2)
    voiced = np.arange(cost.shape[2]) < CANDIDATES
    both = voiced[:, None] & voiced
    change = CHANGE * (voiced[:, None] != voiced)
    total, came_from = cost[:, 0], np.zeros(cost.shape, np.int64)
    for t in range(1, frames):
        jump = np.abs(pitch[:, t - 1, :, None] - pitch[:, t, None, :])
        step = total[:, :, None] + np.where(both, JUMP * jump, change)
        came_from[:, t] = step.argmin(axis=1)
        total = step.min(axis=1) + cost[:, t]
    rows, state = np.arange(batch), total.argmin(axis=1)
    path = np.zeros((batch, frames), np.float32)
    for t in range(frames - 1, -1, -1):
        path[:, t] = np.where(state < CANDIDATES, 2.0 ** pitch[rows, t, state], 0.0)
        state = came_from[rows, t, state]
    return path
