"""Kaldi's filterbank features, the input of the speaker models."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def kaldi_fbank(wav: np.ndarray, subtract_mean: bool = False) -> np.ndarray:
    """Return Kaldi filterbank features, float32 `[frames, 80]` at 100 Hz.

    The frames are 25 ms povey windows every 10 ms inside the signal (snip_edges), each without its mean, with
    pre-emphasis 0.97 and no dither; the features are log power. Framing runs in float32 as Kaldi's does, so that
    near-silent bands are rounded as they were in training.

    Args:
        wav: `[samples]` float in -1..1 at 16 kHz, at least 400 samples.
        subtract_mean: remove each band's mean over time, as speaker models need it.
    """
    if wav.ndim != 1 or len(wav) < 400:
        raise ValueError(f"kaldi_fbank needs wav [samples] with at least 400 samples, got shape {wav.shape}")
    frames = np.lib.stride_tricks.sliding_window_view(wav.astype(np.float32), 400)[::160]
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames = frames - np.float32(0.97) * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    spectrum = np.fft.rfft(frames * _povey_window(), 512, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    fbank = np.log(np.maximum(power @ _kaldi_filters().T, np.finfo(np.float32).eps))
    return (fbank - fbank.mean(axis=0) if subtract_mean else fbank).astype(np.float32)


@lru_cache(maxsize=1)
def _povey_window() -> np.ndarray:
    """Return Kaldi's window, float32 `[400]`: a symmetric Hann window to the power 0.85."""
    return ((0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(400) / 399)) ** 0.85).astype(np.float32)


@lru_cache(maxsize=1)
def _kaldi_filters() -> np.ndarray:
    """Return Kaldi's mel filters from 20 Hz to 8 kHz, `[80, 257]`: triangles of unit height on the HTK scale itself."""
    low, high, bins = (1127.0 * np.log1p(np.asarray(hz) / 700.0) for hz in (20.0, 8000.0, np.arange(257) * 31.25))
    step = (high - low) / 81
    centres = low + step * np.arange(1, 81)[:, None]
    return np.maximum(1.0 - np.abs(bins - centres) / step, 0.0)
