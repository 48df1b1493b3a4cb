"""Recordings and addresses of any content: they are taken as the server takes them, or refused in a sentence."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from support.fuzzing import examples

from tritone.audio.wav import read_wav
from tritone.client.address import server_address
from tritone.client.errors import SpeechError
from tritone.client.recording import read_reference

BYTES = st.sampled_from([0, 1, 3, 6, 7, 0x7F, 0x80, 0xFE, 0xFF]) | st.integers(0, 255)
CHANGES = st.lists(st.tuples(st.integers(0, 120), BYTES), max_size=3)


def recorded(form: str, kind: str) -> bytes:
    """Return a file of two channels with 200 samples each."""
    buffer = io.BytesIO()
    wav = np.linspace(-0.5, 0.5, 400, dtype=np.float32).reshape(-1, 2)
    soundfile.write(buffer, wav, 16000, format=form, subtype=kind)
    return buffer.getvalue()


FILES = {kind: recorded(*kind) for kind in (
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAVEX", "FLOAT"), ("WAV", "ULAW"), ("RF64", "PCM_16"), ("FLAC", "PCM_16"),
)}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings")


@examples(50)
@given(st.sampled_from(sorted(FILES)), CHANGES, st.integers(0, 60))
def test_a_damaged_recording_is_read_or_refused(
    folder: Path, kind: tuple[str, str], changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(FILES[kind][: len(FILES[kind]) - cut])
    for place, value in changes:
        content[place % len(content)] = value
    path = folder / "a.wav"
    path.write_bytes(content)
    try:
        with np.errstate(all="ignore"):
            found = read_reference(path)
    except SpeechError as error:
        assert str(error).startswith((str(path), "no sound file")) and "\n" not in str(error)
        return
    assert found.dtype == np.float32 and found.ndim == 1 and found.size
    if not changes:
        np.testing.assert_array_equal(found, read_wav(path, 16000))


@examples(50)
@given(
    st.text(max_size=20)
    | st.lists(st.sampled_from(["http", "grpc", "://", ":", "/", "[", "]", "1", "h", "::", "@"])).map("".join),
    st.sampled_from(["grpc", "http"]),
)
def test_any_address_is_host_and_port_or_refused(typed: str, protocol: str) -> None:
    try:
        address = server_address(typed, protocol)
    except SpeechError as error:
        assert str(error).startswith(f"--url {typed}")
        return
    assert re.search(r":[0-9]+$", address) or re.match(r"(unix(-abstract)?|dns|ipv4|ipv6):", address)
