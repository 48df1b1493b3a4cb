"""Mel frames at another speed, whole or as they arrive."""

from __future__ import annotations

import numpy as np


class SpeedStream:
    """Resamples mel frames in time by linear interpolation; `speed` 2 halves the duration.

    Output frame j lies at input position `(j + 0.5) * speed - 0.5`, held at both ends; the total is
    `floor(frames / speed)`, and at least one frame. Cutting the input differently never changes the output.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._held = np.zeros((1, 0, 0), np.float32)
        self._first = 0
        self._done = 0

    def push(self, mel: np.ndarray, last: bool = False) -> np.ndarray:
        """Return the mel `[1, 80, frames]` of every output frame that is now determined."""
        if self._speed == 1.0:
            return mel
        held = mel if self._held.shape[1] == 0 else np.concatenate([self._held, mel], axis=2)
        total = self._first + held.shape[2]
        if last:
            stop = max(int(total / self._speed), min(total, 1))
        else:
            stop = int(np.floor((total - 0.5) / self._speed - 0.5)) + 1
        position = (np.arange(self._done, max(stop, self._done)) + 0.5) * self._speed - 0.5
        position = np.clip(position, 0, max(total - 1, 0))
        left = np.minimum(np.floor(position).astype(np.int64), max(total - 2, 0))
        weight = (position - left).astype(np.float32)
        right = np.minimum(left + 1, total - 1)
        out = held[:, :, left - self._first] * (1 - weight) + held[:, :, right - self._first] * weight
        self._done = max(stop, self._done)
        keep = max(0, min(int(np.floor((self._done + 0.5) * self._speed - 0.5)), total - 1) - self._first)
        self._held, self._first = held[:, :, keep:], self._first + keep
        return out.astype(np.float32)


def at_speed(mel: np.ndarray, speed: float) -> np.ndarray:
    """Return a whole mel `[1, 80, frames]` resampled in time, `floor(frames / speed)` frames long."""
    return SpeedStream(speed).push(mel, last=True)
