"""Reading and writing sound files as mono float32."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np

from tritone.audio.resample import resample
from tritone.errors import TritoneError


def read_wav(source: str | Path | bytes, rate: int) -> np.ndarray:
    """Return a sound file as mono samples at `rate`, float32 `[samples]` in -1..1.

    Channels are averaged and other rates are resampled.

    Args:
        source: a path or a file's bytes, in any format libsndfile reads (wav, flac, ogg, mp3).
    """
    samples, own_rate = read_samples(source)
    return resample(samples, own_rate, rate)


def read_samples(source: str | Path | bytes) -> tuple[np.ndarray, int]:
    """Return the mono samples of `read_wav` at the file's own rate, and that rate in Hz."""
    import soundfile

    name = "the given bytes" if isinstance(source, bytes) else str(source)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise TritoneError(f"no sound file at {name}")
    try:
        samples, rate = soundfile.read(
            io.BytesIO(source) if isinstance(source, bytes) else str(source), dtype="float32", always_2d=True
        )
    except soundfile.LibsndfileError as error:
        raise TritoneError(f"{name} is not a sound file that can be read (wav, flac, ogg or mp3): {error}") from error
    return samples.mean(axis=1), int(rate)


def write_wav(path: str | Path, wav: np.ndarray, rate: int) -> None:
    """Write a mono 16-bit PCM file; samples outside -1..1 are clipped.

    Args:
        wav: `[samples]` float. rate: samples per second.
    """
    if wav.ndim != 1:
        raise ValueError(f"write_wav needs wav [samples], got shape {wav.shape}")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(wav, -1.0, 1.0) * 32767.0).round().astype("<i2").tobytes())
