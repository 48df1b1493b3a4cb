"""The settings of a mel spectrogram."""

from __future__ import annotations

from dataclasses import dataclass


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
