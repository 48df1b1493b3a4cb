"""Sound files for the command line, read and written with the standard library and NumPy."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np

from tritone.client.errors import SpeechError

RATES, CHANNELS, LONGEST = (1000, 768000), 64, 600
"""The sample rates in Hz, the most channels and the longest recording in seconds that are read."""


def read_reference(path: str | Path, rate: int = 16000) -> np.ndarray:
    """Return a PCM wav file as mono float32 `[samples]` at `rate`; channels are averaged, other rates resampled."""
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, found = file.getsampwidth(), file.getnchannels(), file.getframerate()
            check_header(path, width, channels, found)
            longest = LONGEST * found
            data = np.frombuffer(file.readframes(longest + 1), np.uint8)
            if len(data) > longest * channels * width:
                raise SpeechError(f"{path} is longer than {LONGEST} s, which no reference recording may be; cut it")
    except FileNotFoundError:
        raise SpeechError(f"no sound file at {path}") from None
    except (wave.Error, EOFError, RuntimeError, struct.error) as error:
        remedy = f"convert it, e.g. ffmpeg -i IN -ar {rate} OUT.wav"
        raise SpeechError(f"{path} is not a PCM wav file ({error or 'it ends early'}); {remedy}") from None
    except OSError as error:
        raise SpeechError(f"{path} cannot be read: {error.strerror or error}") from None
    data = data[: len(data) // (width * channels) * width * channels].reshape(-1, channels, width)
    if width == 1:
        samples = (data[..., 0].astype(np.float64) - 128.0) / 128.0
    else:
        wide = np.zeros((*data.shape[:2], 4), np.uint8)
        wide[..., 4 - width :] = data
        samples = wide.view("<i4")[..., 0] / 2.0**31
    return resample(samples.mean(axis=1), found, rate)


def check_header(path: str | Path, width: int, channels: int, rate: int) -> None:
    """Raise SpeechError for a header with sizes that no recording has."""
    if not (1 <= width <= 4 and 1 <= channels <= CHANNELS and RATES[0] <= rate <= RATES[1]):
        raise SpeechError(
            f"{path} has {channels} channels of {8 * width} bits at {rate} Hz; at most {CHANNELS} channels of 8 to 32 "
            f"bits at {RATES[0]} to {RATES[1]} Hz are read"
        )


def resample(wav: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Return the whole recording at another rate, float32.

    Its spectrum is cut or padded (band-limited interpolation).
    """
    if from_rate == to_rate or len(wav) == 0:
        return wav.astype(np.float32)
    length = max(1, round(len(wav) * to_rate / from_rate))
    spectrum = np.fft.rfft(wav)[: length // 2 + 1]
    return (np.fft.irfft(spectrum, length) * (length / len(wav))).astype(np.float32)


def pcm16(wav: np.ndarray) -> bytes:
    """Return the 16-bit little-endian samples of float `[samples]`, clipped to -1..1."""
    return (np.clip(wav, -1.0, 1.0) * 32767.0).round().astype("<i2").tobytes()


class WavWriter:
    """A mono 16-bit wav file that grows as chunks arrive; use it as a context manager."""

    def __init__(self, path: str | Path, rate: int) -> None:
        self._file = wave.open(str(path), "wb")  # noqa: SIM115  (closed by __exit__)
        self._file.setnchannels(1)
        self._file.setsampwidth(2)
        self._file.setframerate(rate)

    def __enter__(self) -> WavWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, wav: np.ndarray) -> None:
        """Append float samples `[samples]`."""
        self._file.writeframes(pcm16(wav))
