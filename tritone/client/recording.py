"""Sound files for the command line: read in every form that the server reads, and written as chunks arrive.

Wav files need NumPy alone; flac, ogg, mp3 and rarer forms need the package soundfile.
"""

from __future__ import annotations

import sys
import wave
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from tritone.audio.reference import rate_problem
from tritone.client.errors import SpeechError
from tritone.client.wav_file import NotPlain, decode, read_header
from tritone.errors import TritoneError

RATES, CHANNELS, LONGEST = (1000, 768000), 64, 600
"""The sample rates in Hz, the most channels and the longest recording in seconds that are read."""
PACKED = {".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3"}
"""The formats that soundfile writes, by the end of a file's name."""
NEEDS = "the package soundfile, which is not installed; run: pip install soundfile"


def read_reference(path: str | Path, rate: int = 16000) -> np.ndarray:
    """Return a sound file as mono float32 `[samples]` at `rate`; channels are averaged, other rates resampled.

    Raises SpeechError for a file that is missing, empty or no sound, and for one sampled below 16 kHz.
    """
    try:
        with open(path, "rb") as file:
            try:
                samples, found = _plain(path, file)
            except NotPlain as kind:
                samples, found = _any(path, str(kind), file)
    except FileNotFoundError:
        raise SpeechError(f"no sound file at {path}") from None
    except OSError as error:
        raise SpeechError(f"{path} cannot be read: {error.strerror or error}") from None
    if not len(samples):
        raise SpeechError(f"{path} is empty: it has no samples; give a recording of 0.5 s or more, or leave it out")
    if problem := rate_problem(found):
        raise SpeechError(f"{path} {problem}")
    return resample(samples, found, rate)


def read_numbers(path: Path) -> np.ndarray:
    """Return the numbers in a file that numpy.save wrote, such as an embedding."""
    try:
        numbers: np.ndarray = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise SpeechError(f"no file of numbers at {path}") from None
    except (OSError, ValueError, EOFError) as error:
        raise SpeechError(f"{path} is not an array that numpy.save wrote ({error})") from None
    if not isinstance(numbers, np.ndarray) or numbers.dtype.kind not in "fiu" or not numbers.size:
        raise SpeechError(f"{path} holds no numbers; save one array of them with numpy.save")
    return numbers


def _plain(path: str | Path, file: BinaryIO) -> tuple[np.ndarray, int]:
    """Return the mono samples of a wav file and their rate; raise NotPlain for another file."""
    header = read_header(file)
    check_header(path, header.channels, header.rate)
    longest = LONGEST * header.rate * header.channels * header.width
    data = file.read(longest + 1)
    if len(data) > longest:
        raise too_long(path)
    return decode(header, data).mean(axis=1), header.rate


def _any(path: str | Path, kind: str, file: BinaryIO) -> tuple[np.ndarray, int]:
    """Return the mono samples of any sound file and their rate, as the server reads it."""
    file.seek(0)
    if not file.read(1):
        raise SpeechError(f"{path} is empty: it has no bytes; give a recording of 0.5 s or more, or leave it out")
    remedy = "convert it, e.g. ffmpeg -i IN -ar 16000 OUT.wav"
    try:
        import soundfile  # noqa: F401
    except ImportError:
        raise SpeechError(
            f"{path} is not a wav file of plain samples ({kind}); other sounds need {NEEDS}, or {remedy}"
        ) from None
    from tritone.audio.wav import read_samples

    try:
        samples, rate = read_samples(path)
    except TritoneError as error:
        raise SpeechError(f"{error}; {remedy}") from None
    if len(samples) > LONGEST * rate:
        raise too_long(path)
    return samples, rate


def too_long(path: str | Path) -> SpeechError:
    """Return the error of a recording beyond the limit."""
    return SpeechError(f"{path} is longer than {LONGEST} s, which no reference recording may be; cut it")


def check_header(path: str | Path, channels: int, rate: int) -> None:
    """Raise SpeechError for a header with sizes that no recording has."""
    if not (1 <= channels <= CHANNELS and RATES[0] <= rate <= RATES[1]):
        raise SpeechError(
            f"{path} has {channels} channels at {rate} Hz; at most {CHANNELS} channels at {RATES[0]} to {RATES[1]} Hz "
            "are read"
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


class Writer(Protocol):
    """A sound that grows as chunks arrive."""

    def write(self, wav: np.ndarray) -> None:
        """Append float samples `[samples]`."""

    def close(self) -> None:
        """Finish the sound."""


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
        self.close()

    def close(self) -> None:
        """Write the length into the header and close the file."""
        self._file.close()

    def write(self, wav: np.ndarray) -> None:
        """Append float samples `[samples]`."""
        self._file.writeframes(pcm16(wav))


class PipeWriter:
    """A mono 16-bit wav on standard output; its header gives no length, as that is not known before the end."""

    def __init__(self, rate: int, out: BinaryIO | None = None) -> None:
        self._out = out or sys.stdout.buffer
        unknown = b"\xff\xff\xff\xff"
        fields = (16, 1, 1, rate, 2 * rate, 2, 16)
        form = b"".join(n.to_bytes(size, "little") for n, size in zip(fields, (4, 2, 2, 4, 4, 2, 2), strict=True))
        self._out.write(b"RIFF" + unknown + b"WAVEfmt " + form + b"data" + unknown)

    def write(self, wav: np.ndarray) -> None:
        """Append float samples `[samples]`, and send them at once."""
        self._out.write(pcm16(wav))
        self._out.flush()

    def close(self) -> None:
        """Send what is left; standard output stays open."""
        self._out.flush()


class PackedWriter:
    """A flac, ogg or mp3 file, written by soundfile."""

    def __init__(self, path: str | Path, rate: int) -> None:
        import soundfile

        self._file: Any = soundfile.SoundFile(str(path), "w", rate, 1, format=PACKED[Path(path).suffix.lower()])

    def write(self, wav: np.ndarray) -> None:
        """Append float samples `[samples]`."""
        self._file.write(np.clip(wav, -1.0, 1.0))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def writer(path: Path, rate: int) -> Writer:
    """Return the writer of the format that the name asks for; `-` is standard output."""
    if str(path) == "-":
        return PipeWriter(rate)
    return PackedWriter(path, rate) if path.suffix.lower() in PACKED else WavWriter(path, rate)
