"""Headers of sound files are not believed: sizes that lie, rates and channels that no recording has."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tritone.audio import wav
from tritone.audio.wav import check_header, read_samples, read_wav
from tritone.client import recording
from tritone.client.errors import SpeechError
from tritone.client.recording import read_reference
from tritone.errors import TritoneError


def riff(channels: int = 1, rate: int = 16000, bits: int = 16, data: bytes = bytes(3200), size: int = -1) -> bytes:
    """Return a wav file with any header; it says that there are `size` bytes of data (-1: as many as there are)."""
    block = channels * bits // 8 & 0xFFFF
    about = struct.pack("<HHIIHH", 1, channels, rate, rate * block & 0xFFFFFFFF, block, bits)
    length = len(data) if size < 0 else size
    body = b"WAVEfmt " + struct.pack("<I", 16) + about + b"data" + struct.pack("<I", length) + data
    return b"RIFF" + struct.pack("<I", 0xFFFFFFFF if size >= 0 else len(body)) + body


ODD_CHUNK = b"RIFF\x10\0\0\0WAVEjunk\xff\xff\0\0abcd"
"""A chunk that ends beyond the file it is in."""


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0xFFFFFFF0, 1 << 31])
def test_a_length_that_lies_gives_what_there_is(tmp_path: Path, size: int) -> None:
    samples, rate = read_samples(riff(size=size))
    assert len(samples) in (0, 1600) and rate == 16000
    (tmp_path / "a.wav").write_bytes(riff(size=size))
    try:
        assert len(read_reference(tmp_path / "a.wav")) <= 1600
    except SpeechError as error:
        assert "is not a PCM wav file" in str(error)


@pytest.mark.parametrize(
    ("channels", "rate", "message"),
    [(1, 1, "sampled at 1 Hz"), (1, 2**31 - 1, "sampled at 2147483647 Hz"), (65, 16000, "has 65 channels; at most 64")],
)
def test_sizes_that_no_recording_has(channels: int, rate: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(TritoneError, match=message):
        check_header(rate, channels, "a.wav")
    with pytest.raises(TritoneError, match=message):
        read_samples(riff(channels, rate))
    (tmp_path / "a.wav").write_bytes(riff(channels, rate))
    with pytest.raises(SpeechError, match=rf"a\.wav has {channels} channels at {rate} Hz; at most 64"):
        read_reference(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "content",
    [
        riff(rate=0),
        riff(channels=0),
        riff(channels=65535),
        riff(bits=0),
        riff(bits=65528),
        riff()[:30],
        b"",
        b"RIFF",
        ODD_CHUNK,
    ],
)
def test_headers_that_lie_are_sentences(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(
        TritoneError, match=r"(a\.wav|given bytes) (is not a sound file|is sampled at 0|has 0 channels|has 65535)"
    ):
        read_samples(content)
    with pytest.raises(SpeechError, match=r"a\.wav (is empty|is not a (PCM wav|sound) file|has \d+ channels)"):
        read_reference(tmp_path / "a.wav")


def test_a_compressed_recording_of_hours_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wav, "LONGEST", 60)
    monkeypatch.setattr(wav, "BLOCK", 1 << 16)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(61 * 8000, np.float32), 8000, format="FLAC")
    assert len(buffer.getvalue()) < 20_000
    with pytest.raises(TritoneError, match="the given bytes is longer than 60 s; a recording may not be, cut it"):
        read_wav(buffer.getvalue(), 8000)


def test_a_flac_header_that_tells_of_68_billion_samples() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(8000, 0.5, np.float32), 8000, format="FLAC")
    content = bytearray(buffer.getvalue())
    content[21] |= 0x0F  # 36 bits of STREAMINFO are the number of samples
    content[22:26] = b"\xff\xff\xff\xff"
    try:
        assert len(read_samples(bytes(content))[0]) <= 16000
    except TritoneError as error:
        assert "cannot be read" in str(error) or "can be read" in str(error)


def test_channels_are_averaged_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wav, "BLOCK", 7)
    buffer, pair = io.BytesIO(), np.stack((np.linspace(0, 0.5, 100), np.linspace(0.5, 0, 100)), axis=1)
    soundfile.write(buffer, pair, 16000, format="WAV", subtype="FLOAT")
    assert np.allclose(read_samples(buffer.getvalue())[0], 0.25) and len(read_samples(buffer.getvalue())[0]) == 100


def test_a_client_reads_no_recording_of_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "LONGEST", 1)
    for samples, fits in ((16000, True), (16001, False)):
        with wave.open(str(tmp_path / "a.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(bytes(2 * samples))
        if fits:
            assert len(read_reference(tmp_path / "a.wav")) == 16000
        else:
            with pytest.raises(SpeechError, match=r"a\.wav is longer than 1 s, which no reference recording may be"):
                read_reference(tmp_path / "a.wav")
    with pytest.raises(SpeechError, match="cannot be read: Is a directory"):
        read_reference(tmp_path)
