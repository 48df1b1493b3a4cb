"""Recordings at another sample rate: with a steep filter for general use, or with the published models' own."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np


def resample(wav: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Return a recording at another sample rate, float32 `[samples * to_rate / from_rate]`."""
    if from_rate == to_rate:
        return wav.astype(np.float32)
    import soxr

    resampled: np.ndarray = soxr.resample(wav.astype(np.float32), from_rate, to_rate)
    return resampled


def sinc_resample(wav: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Return a recording at another sample rate, resampled as for the published models.

    The kernel is a sinc of six zero crossings under a Hann window, cut off at 0.99 of the lower rate's band (Smith,
    Digital Audio Resampling Home Page). Its gentle slope lets some alias through that `resample` removes. A speaker
    embedding of the published model differs by 1 % of its peak between the two, so reference recordings use this one.

    Args:
        wav: `[samples]` float.

    Returns:
        float32 `[ceil(samples * to_rate / from_rate)]`.
    """
    if from_rate == to_rate or wav.size == 0:
        return wav.astype(np.float32)
    divisor = math.gcd(from_rate, to_rate)
    kernels, reach = sinc_kernels(from_rate // divisor, to_rate // divisor)
    step = from_rate // divisor
    padded = np.pad(wav.astype(np.float64), (reach, reach + step))
    frames = np.lib.stride_tricks.sliding_window_view(padded, kernels.shape[1])[::step]
    samples = -(-len(wav) * to_rate // from_rate)
    return (frames @ kernels.T).reshape(-1)[:samples].astype(np.float32)


@lru_cache(maxsize=8)
def sinc_kernels(from_step: int, to_step: int) -> tuple[np.ndarray, int]:
    """Return one kernel per output phase, float64 `[to_step, taps]`, and its reach to the left in input samples."""
    crossings = 6
    band = 0.99 * min(from_step, to_step)
    reach = math.ceil(crossings * from_step / band)
    inputs = np.arange(-reach, reach + from_step) / from_step
    time = np.clip((inputs - np.arange(to_step)[:, None] / to_step) * band, -crossings, crossings)
    return np.sinc(time) * np.cos(0.5 * np.pi * time / crossings) ** 2 * (band / from_step), reach
