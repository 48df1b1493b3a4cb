"""Log-magnitude mel spectrograms, the filters behind them, and the short-time spectrum they are computed from.

Training, serving and tests all compute their features here, so that a model always receives what it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class MelConfig:
    """Sizes of a log-magnitude mel spectrogram: slaney filters, reflect-padded, not centred; frequencies in Hz."""

    n_fft: int = 1920
    num_mels: int = 80
    sample_rate: int = 24000
    hop: int = 480
    win: int = 1920
    fmin: float = 0.0
    fmax: float | None = 8000.0


def mel_spectrogram(wav: np.ndarray, mel: MelConfig) -> np.ndarray:
    """Return the log-magnitude mel spectrogram, float32 `[mels, frames]` with `frames = samples // hop`.

    Frames are taken from the signal reflect-padded by (n_fft - hop) / 2 on both sides, under a periodic Hann window;
    magnitudes are sqrt(|X|^2 + 1e-9), summed by slaney filters, floored at 1e-5 and returned as natural logarithms,
    as in HiFi-GAN (Kong et al., 2020) and Matcha-TTS (Mehta et al., 2023).

    Args:
        wav: `[samples]` float at `mel.sample_rate`, longer than the padding.
    """
    pad = (mel.n_fft - mel.hop) // 2
    if wav.ndim != 1 or len(wav) <= pad:
        raise ValueError(f"mel_spectrogram needs wav [samples] with more than {pad} samples, got shape {wav.shape}")
    spectrum = stft(np.pad(wav.astype(np.float64), pad, mode="reflect"), mel.n_fft, mel.hop, mel.win)
    magnitude = np.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-9)
    filters = mel_filters(mel.sample_rate, mel.n_fft, mel.num_mels, mel.fmin, mel.fmax)
    return np.log(np.maximum(filters @ magnitude, 1e-5)).astype(np.float32)


@lru_cache(maxsize=16)
def mel_filters(rate: int, n_fft: int, mels: int, fmin: float = 0.0, fmax: float | None = None) -> np.ndarray:
    """Return triangular mel filters of unit area, float64 `[mels, n_fft // 2 + 1]`, read-only.

    They are spaced on the slaney scale: linear below 1 kHz (200/3 Hz per mel), logarithmic above (Slaney,
    Auditory Toolbox, 1998).

    Args:
        rate: samples per second.
        fmin, fmax: lowest and highest frequency in Hz; None is half the sample rate.
    """
    edges = _hz(np.linspace(_mel(fmin), _mel(rate / 2 if fmax is None else fmax), mels + 2))
    bins = np.linspace(0.0, rate / 2, n_fft // 2 + 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    filters: np.ndarray = np.maximum(triangles, 0.0) * (2.0 / (high - low))
    filters.setflags(write=False)
    return filters


def stft(padded: np.ndarray, n_fft: int, hop: int, win: int) -> np.ndarray:
    """Return the complex short-time spectrum `[n_fft // 2 + 1, frames]` of an already padded signal, a frame per hop.

    The periodic Hann window of `win` samples is centred in the `n_fft` samples of a frame.
    """
    window = np.zeros(n_fft)
    start = (n_fft - win) // 2
    window[start : start + win] = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(win) / win)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    return np.fft.rfft(frames * window, axis=1).T


def _mel(hz: float) -> float:
    return hz * 3.0 / 200.0 if hz < 1000.0 else 15.0 + 27.0 * float(np.log(hz / 1000.0) / np.log(6.4))


def _hz(mels: np.ndarray) -> np.ndarray:
    return np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * np.exp((mels - 15.0) * np.log(6.4) / 27.0))
