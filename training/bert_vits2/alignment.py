"""Monotonic alignment search: the assignment of spectrogram frames to phones under the current model.

Source: Kim et al., "Glow-TTS" (2020), algorithm 1; noise on the scores as in Kong et al., "VITS2" (2023). The search
is one compiled call for a batch. It runs on the CPU for tensors of a GPU too, because each frame depends on the frame
before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

INITIAL_NOISE = 0.01
NOISE_DECAY = 2e-6
"""Decrease per step: the noise is 0 after 5000 steps."""


def noise_scale(step: int, initial: float = INITIAL_NOISE, decay: float = NOISE_DECAY) -> float:
    """Return the deviation of the noise on the scores at a training step, in standard deviations of the scores."""
    return max(initial - decay * step, 0.0)


def align(scores: Tensor, mask: Tensor) -> Tensor:
    """Return `monotonic_path` of scores `[batch, frames, phones]`; the mask of that shape is 1 where both exist."""
    return monotonic_path(scores, mask[:, :, 0].sum(1), mask[:, 0].sum(1))


def monotonic_path(scores: Tensor, frames: Tensor, phones: Tensor, allow_short: bool = False) -> Tensor:
    """Return the best monotonic alignment, 1 where a frame belongs to a phone and 0 elsewhere, like `scores`.

    The path starts at the first phone, ends at the last and skips none; where staying on a phone and having moved to it
    score the same, it stays.

    Args:
        scores: `[batch, frames, phones]`, any float type, on any device; computed on in float32.
        frames, phones: numbers of frames and phones of each row, `[batch]`.
        allow_short: also accept rows with fewer frames than phones, whose path cannot reach the first phone.
    Raises:
        ValueError: the lengths do not fit the scores, or (without `allow_short`) a row has fewer frames than phones.
    """
    t_y, t_x = _lengths(frames), _lengths(phones)
    _check(scores, t_y, t_x, allow_short)
    values = scores.detach().to("cpu", torch.float32, copy=True).contiguous().numpy()
    path = np.zeros_like(values)
    _search()(values, t_y, t_x, path)
    return torch.from_numpy(path).to(scores.device, scores.dtype)


def _lengths(lengths: Tensor) -> np.ndarray:
    return lengths.detach().cpu().numpy().astype(np.int64)


def _check(scores: Tensor, frames: np.ndarray, phones: np.ndarray, allow_short: bool) -> None:
    if scores.ndim != 3 or frames.shape != scores.shape[:1] or phones.shape != scores.shape[:1]:
        raise ValueError(
            "alignment needs scores [batch, frames, phones] and two lengths [batch], got "
            f"{list(scores.shape)}, {list(frames.shape)} and {list(phones.shape)}"
        )
    for name, lengths, size in (("frames", frames, scores.shape[1]), ("phones", phones, scores.shape[2])):
        for row, length in enumerate(lengths):
            if not 1 <= length <= size:
                raise ValueError(f"alignment: row {row} has {length} {name}, but the scores have 1 to {size}")
    short = np.flatnonzero(frames < phones)
    if len(short) and not allow_short:
        row = int(short[0])
        raise ValueError(
            f"alignment: row {row} has {frames[row]} frames for {phones[row]} phones, so some phone would get none; "
            "drop utterances with fewer frames than phones (blanks included) from the file list"
        )


@lru_cache(maxsize=1)
def _search() -> Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], None]:
    """Return the compiled search, which turns scores into best sums, in place, and sets the path to 1."""
    from numba import njit

    @njit("void(float32[:, :, ::1], int64[::1], int64[::1], float32[:, :, ::1])", nogil=True)
    def search(values: np.ndarray, frames: np.ndarray, phones: np.ndarray, path: np.ndarray) -> None:
        for row in range(values.shape[0]):
            t_y, t_x = frames[row], phones[row]
            # Sum only phones that can be reached from the first and from which the last can be reached.
            for y in range(1, t_y):
                before, here = values[row, y - 1], values[row, y]
                low, high = max(0, t_x + y - t_y), min(t_x, y + 1)
                if low == 0 and high > 0:
                    here[0] += before[0]
                for x in range(max(low, 1), min(high, y)):
                    here[x] += max(before[x], before[x - 1])
                if low <= y < high:
                    here[y] += before[y - 1]
            x = t_x - 1
            for y in range(t_y - 1, -1, -1):
                path[row, y, x] = 1.0
                if x > 0 and y > 0 and (x == y or values[row, y - 1, x] < values[row, y - 1, x - 1]):
                    x -= 1

    return search
