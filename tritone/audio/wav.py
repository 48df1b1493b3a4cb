"""Reading and writing sound files as mono float32."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np

from tritone.audio.resample import resample
from tritone.errors import TritoneError

RATES = (1000, 768000)
"""The lowest and highest sample rate that is read, in Hz."""
CHANNELS = 64
LONGEST = 3600
"""The longest recording that is read, in seconds; a small compressed file can hold days."""
CANCELLED = 0.01
"""Share of the channels' power below which their average has lost the sound; one of 64 channels alone has more."""
BLOCK = 1 << 20
"""Samples that are read at a time, of all channels together."""


def read_wav(source: str | Path | bytes, rate: int) -> np.ndarray:
    """Return a sound file as mono samples at `rate`, float32 `[samples]` in -1..1.

    Channels are averaged and other rates are resampled.

    Args:
        source: a path or a file's bytes, in any format libsndfile reads (wav, flac, ogg, mp3).
    """
    samples, own_rate = read_samples(source)
    return resample(samples, own_rate, rate)


def read_samples(source: str | Path | bytes) -> tuple[np.ndarray, int]:
    """Return the mono samples of `read_wav` at the file's own rate, and that rate in Hz.

    Raises:
        TritoneError: the file is missing, not a sound file, or of a rate, length or number of channels that no
            recording has, or its channels cancel each other. The length in its header is not believed.
    """
    import soundfile

    name = "the given bytes" if isinstance(source, bytes) else str(source)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise TritoneError(f"no sound file at {name}")
    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as file:
            rate, channels = int(file.samplerate), int(file.channels)
            check_header(rate, channels, name)
            parts, count, heard, kept = [np.zeros(0, np.float32)], 0, 0.0, 0.0
            while len(block := file.read(BLOCK // channels, dtype="float32", always_2d=True)):
                count += len(block)
                if count > LONGEST * rate:
                    raise TritoneError(f"{name} is longer than {LONGEST} s; a recording may not be, cut it")
                parts.append(block.mean(axis=1))
                if channels > 1:
                    heard += float(np.square(block, dtype=np.float64).mean(axis=1).sum())
                    kept += float(np.square(parts[-1], dtype=np.float64).sum())
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise TritoneError(f"{name} is not a sound file that can be read (wav, flac, ogg or mp3): {error}") from error
    if kept < CANCELLED * heard:
        raise TritoneError(
            f"{name}: its channels cancel each other when they are averaged (antiphase); save one of them alone"
        )
    return np.concatenate(parts), rate


def check_header(rate: int, channels: int, name: str) -> None:
    """Raise TritoneError for a sample rate or a number of channels that no recording has."""
    if not RATES[0] <= rate <= RATES[1]:
        raise TritoneError(f"{name} is sampled at {rate} Hz; recordings of {RATES[0]} to {RATES[1]} Hz are read")
    if not 1 <= channels <= CHANNELS:
        raise TritoneError(f"{name} has {channels} channels; at most {CHANNELS} are read")


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
