"""Whisper's log-mel features, the input of the speech tokenizers."""

from __future__ import annotations

import numpy as np

from tritone.audio.mel import mel_filters, stft


def whisper_mel(wav: np.ndarray, mels: int = 128) -> np.ndarray:
    """Return Whisper's log-mel features, float32 `[mels, frames]` at 100 Hz, with `frames = samples // 160`.

    Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022).

    Args:
        wav: `[samples]` float at 16 kHz, more than 200 samples.
        mels: 128 as in Whisper's third version, 80 as in the first two.
    """
    if wav.ndim != 1 or len(wav) <= 200:
        raise ValueError(f"whisper_mel needs wav [samples] with more than 200 samples, got shape {wav.shape}")
    spectrum = stft(np.pad(wav.astype(np.float64), 200, mode="reflect"), 400, 160, 400)[:, :-1]
    power = spectrum.real**2 + spectrum.imag**2
    log = np.log10(np.maximum(mel_filters(16000, 400, mels, 0.0, None) @ power, 1e-10))
    return ((np.maximum(log, log.max() - 8.0) + 4.0) / 4.0).astype(np.float32)
