"""Acoustic features in NumPy: the mel spectrogram, the tokenizer's and the speaker model's inputs, resampling.

Training, serving and tests all take their features from here, so that a model always hears what it was trained on.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from tritone.audio.mel import MelConfig
from tritone.errors import InvalidRequest

REFERENCE_SECONDS = (0.5, 30.0)
"""Shortest and longest reference recording; the published speech tokenizer accepts at most 30 s."""
LOWEST_RATE = 16000
"""Lowest sample rate of a reference recording: below it the consonants the models listen for are missing."""
SILENCE_PEAK = 1e-3
"""A recording whose peak stays below this (-60 dB of full scale) carries no voice."""


def mel_spectrogram(wav: np.ndarray, mel: MelConfig) -> np.ndarray:
    """Return log-magnitude mel spectrogram, float32 `[mels, frames]` with `frames = samples // hop`.

    Frames are taken from the signal reflect-padded by (n_fft - hop) / 2 on both sides, under a periodic Hann window;
    magnitudes are sqrt(|X|^2 + 1e-9), summed by slaney filters, floored at 1e-5 and given as natural logarithms. The
    form used by HiFi-GAN (Kong et al., 2020) and Matcha-TTS (Mehta et al., 2023).

    Args:
        wav: `[samples]` float at `mel.sample_rate`, longer than the padding.
    """
    pad = (mel.n_fft - mel.hop) // 2
    if wav.ndim != 1 or len(wav) <= pad:
        raise ValueError(f"mel_spectrogram needs wav [samples] with more than {pad} samples, got shape {wav.shape}")
    spectrum = _stft(np.pad(wav.astype(np.float64), pad, mode="reflect"), mel.n_fft, mel.hop, mel.win)
    magnitude = np.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-9)
    filters = mel_filters(mel.sample_rate, mel.n_fft, mel.num_mels, mel.fmin, mel.fmax)
    return np.log(np.maximum(filters @ magnitude, 1e-5)).astype(np.float32)


def whisper_mel(wav: np.ndarray, mels: int = 128) -> np.ndarray:
    """Whisper's log-mel features, float32 `[mels, frames]` at 100 Hz, `frames = samples // 160`; tokenizers' input.

    Args:
        wav: `[samples]` float at 16 kHz, more than 200 samples.
        mels: 128 as in Whisper's third version, 80 as in its first two.
    Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022).
    """
    if wav.ndim != 1 or len(wav) <= 200:
        raise ValueError(f"whisper_mel needs wav [samples] with more than 200 samples, got shape {wav.shape}")
    spectrum = _stft(np.pad(wav.astype(np.float64), 200, mode="reflect"), 400, 160, 400)[:, :-1]
    power = spectrum.real**2 + spectrum.imag**2
    log = np.log10(np.maximum(mel_filters(16000, 400, mels, 0.0, None) @ power, 1e-10))
    return ((np.maximum(log, log.max() - 8.0) + 4.0) / 4.0).astype(np.float32)


def kaldi_fbank(wav: np.ndarray, subtract_mean: bool = False) -> np.ndarray:
    """Kaldi filterbank features, float32 `[frames, 80]` at 100 Hz; the speaker model hears them with the mean removed.

    25 ms povey windows every 10 ms inside the signal (snip_edges), each without its mean, pre-emphasis 0.97, no dither,
    log power. Framing runs in float32 as Kaldi's does, so that near-silent bands round as they did in training.

    Args:
        wav: `[samples]` float in -1..1 at 16 kHz, at least 400 samples.
        subtract_mean: remove each band's mean over time.
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


@lru_cache(maxsize=16)
def mel_filters(rate: int, n_fft: int, mels: int, fmin: float = 0.0, fmax: float | None = None) -> np.ndarray:
    """Triangular mel filters of unit area, float64 `[mels, n_fft // 2 + 1]`, read-only.

    The slaney scale: linear below 1 kHz (200/3 Hz per mel), logarithmic above (Slaney, Auditory Toolbox, 1998).

    Args:
        rate: samples per second. fmin, fmax: Hz; None is half the sample rate.
    """
    edges = _hz(np.linspace(_mel(fmin), _mel(rate / 2 if fmax is None else fmax), mels + 2))
    bins = np.linspace(0.0, rate / 2, n_fft // 2 + 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    filters: np.ndarray = np.maximum(triangles, 0.0) * (2.0 / (high - low))
    filters.setflags(write=False)
    return filters


def resample(wav: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Return the same sound at another sample rate, float32 `[samples * to_rate / from_rate]`."""
    if from_rate == to_rate:
        return wav.astype(np.float32)
    import soxr

    resampled: np.ndarray = soxr.resample(wav.astype(np.float32), from_rate, to_rate)
    return resampled


def sinc_resample(wav: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Return the same sound at another rate as the published models heard it, float32 `[ceil(samples * to_rate /
    from_rate)]`.

    A sinc kernel of six zero crossings under a Hann window, cut off at 0.99 of the lower rate's band (Smith, Digital
    Audio Resampling Home Page). Its gentle slope lets some alias through that `resample` removes; a speaker embedding
    of the published model differs by 1 % of its peak between the two, so that reference recordings use this one.

    Args:
        wav: `[samples]` float.
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


def check_rate(rate: int, field: str = "reference_wav") -> None:
    """Raise InvalidRequest when a recording's sample rate is too low to hear a voice in."""
    if rate < LOWEST_RATE:
        raise InvalidRequest(field, f"is sampled at {rate} Hz; record it at {LOWEST_RATE} Hz or more")


def check_reference(
    wav: np.ndarray, wav_len: np.ndarray | int | None = None, rate: int = 16000, field: str = "reference_wav"
) -> np.ndarray:
    """Return the usable part of a request's reference recording, float32 `[samples]`; InvalidRequest if there is none.

    Args:
        wav: `[samples]` or `[1, samples]` float32 at `rate`; wav_len: valid samples, as a number or any array of one.
        field: the request's name for the recording.
    """
    if wav.dtype != np.float32:
        raise InvalidRequest(field, f"must be float32 (FP32) samples in -1..1, got {wav.dtype}")
    if wav.ndim not in (1, 2) or (wav.ndim == 2 and wav.shape[0] != 1):
        raise InvalidRequest(field, f"must have shape [1, samples], got {list(wav.shape)}")
    samples = wav.reshape(-1)
    if wav_len is not None:
        lengths = np.asarray(wav_len).reshape(-1)
        if lengths.size != 1 or not 0 < int(lengths[0]) <= len(samples):
            found = int(lengths[0]) if lengths.size == 1 else lengths.tolist()
            problem = f"must be one number from 1 to {len(samples)} samples, got {found}"
            raise InvalidRequest(f"{field}_len", problem)
        samples = samples[: int(lengths[0])]
    seconds, (shortest, longest) = len(samples) / rate, REFERENCE_SECONDS
    if seconds < shortest:
        raise InvalidRequest(field, f"too short: {seconds:.2f} s at {rate} Hz, need at least {shortest:g} s")
    if seconds > longest:
        raise InvalidRequest(field, f"too long: {seconds:.2f} s at {rate} Hz, at most {longest:g} s is used")
    if not np.isfinite(samples).all():
        raise InvalidRequest(field, "contains NaN or infinite samples")
    if np.abs(samples).max() < SILENCE_PEAK:
        raise InvalidRequest(field, f"is silent: no sample exceeds {SILENCE_PEAK:g} of full scale")
    return samples


@lru_cache(maxsize=8)
def sinc_kernels(from_step: int, to_step: int) -> tuple[np.ndarray, int]:
    """Return one kernel per output phase, float64 `[to_step, taps]`, and how many input samples it reaches to
    the left.
    """
    crossings = 6
    band = 0.99 * min(from_step, to_step)
    reach = math.ceil(crossings * from_step / band)
    inputs = np.arange(-reach, reach + from_step) / from_step
    time = np.clip((inputs - np.arange(to_step)[:, None] / to_step) * band, -crossings, crossings)
    return np.sinc(time) * np.cos(0.5 * np.pi * time / crossings) ** 2 * (band / from_step), reach


def _stft(padded: np.ndarray, n_fft: int, hop: int, win: int) -> np.ndarray:
    """Complex spectrum `[n_fft // 2 + 1, frames]`, one frame per hop, under a periodic Hann window centred in n_fft."""
    window = np.zeros(n_fft)
    start = (n_fft - win) // 2
    window[start : start + win] = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(win) / win)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    return np.fft.rfft(frames * window, axis=1).T


@lru_cache(maxsize=1)
def _povey_window() -> np.ndarray:
    """Kaldi's window, float32 `[400]`: a symmetric Hann window to the power 0.85."""
    return ((0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(400) / 399)) ** 0.85).astype(np.float32)


@lru_cache(maxsize=1)
def _kaldi_filters() -> np.ndarray:
    """Kaldi's mel filters from 20 Hz to 8 kHz, `[80, 257]`: triangles of unit height on the HTK scale itself."""
    low, high, bins = (1127.0 * np.log1p(np.asarray(hz) / 700.0) for hz in (20.0, 8000.0, np.arange(257) * 31.25))
    step = (high - low) / 81
    centres = low + step * np.arange(1, 81)[:, None]
    return np.maximum(1.0 - np.abs(bins - centres) / step, 0.0)


def _mel(hz: float) -> float:
    return hz * 3.0 / 200.0 if hz < 1000.0 else 15.0 + 27.0 * float(np.log(hz / 1000.0) / np.log(6.4))


def _hz(mels: np.ndarray) -> np.ndarray:
    return np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * np.exp((mels - 15.0) * np.log(6.4) / 27.0))
