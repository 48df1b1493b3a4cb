"""Wav files of plain samples, read with NumPy alone: whole numbers, floats, A-law and mu-law; extensible and RF64."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

PCM, FLOAT, A_LAW, MU_LAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
WIDTHS = {PCM: (1, 2, 3, 4), FLOAT: (4, 8), A_LAW: (1,), MU_LAW: (1,)}
"""Bytes of one sample of each encoding that is read here."""
CHUNKS = 1000
"""Most parts of a file that are looked at before its samples."""


class NotPlain(Exception):
    """The file is no wav file of plain samples; another reader may know it."""


@dataclass(frozen=True)
class Header:
    """The beginning of a wav file.

    Args:
        encoding: a key of `WIDTHS`.
        width: bytes of one sample.
    """

    encoding: int
    channels: int
    rate: int
    width: int


def read_header(file: BinaryIO) -> Header:
    """Return the header, with the file at its first sample; raise NotPlain for any other kind of file.

    The sizes that a header gives for the whole file and its samples are not believed: they are wrong in files that
    were written to a pipe or cut off.
    """
    if file.read(4) not in (b"RIFF", b"RF64"):
        raise NotPlain("it does not begin as a wav file")
    file.seek(8)
    if file.read(4) != b"WAVE":
        raise NotPlain("it does not begin as a wav file")
    header = None
    for _ in range(CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            break
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"data" and header is not None:
            return header
        if name == b"fmt ":
            header = _format(file.read(min(size, 40)))
            file.seek(max(0, size - 40) + size % 2, 1)
        else:
            file.seek(size + size % 2, 1)
    raise NotPlain("it has no samples behind a format")


def _format(data: bytes) -> Header:
    if len(data) < 16:
        raise NotPlain("its format is cut off")
    encoding, channels, rate, _, block, bits = struct.unpack("<HHIIHH", data[:16])
    if encoding == EXTENSIBLE and len(data) >= 26:
        encoding = int.from_bytes(data[24:26], "little")
    width = block // channels if channels else 0
    if width not in WIDTHS.get(encoding, ()) or block != width * channels or not 0 < bits <= 8 * width:
        raise NotPlain(f"its samples are of the kind {encoding}, {bits} bits in {block} bytes of {channels} channels")
    return Header(encoding, channels, rate, width)


def decode(header: Header, data: bytes) -> np.ndarray:
    """Return samples between -1 and 1, float64 `[samples, channels]`; an incomplete last one is left out."""
    size = header.width * header.channels
    raw = np.frombuffer(data[: len(data) // size * size], np.uint8)
    if header.encoding == FLOAT:
        flat = raw.view(f"<f{header.width}").astype(np.float64)
    elif header.encoding in (A_LAW, MU_LAW):
        flat = (a_law if header.encoding == A_LAW else mu_law)(raw) / 32768.0
    elif header.width == 1:
        flat = (raw.astype(np.float64) - 128.0) / 128.0
    else:
        wide = np.zeros((raw.size // header.width, 4), np.uint8)
        wide[:, 4 - header.width :] = raw.reshape(-1, header.width)
        flat = wide.view("<i4")[:, 0] / 2.0**31
    return flat.reshape(-1, header.channels)


def mu_law(data: np.ndarray) -> np.ndarray:
    """Return the 16-bit values of mu-law bytes (ITU-T G.711), float64."""
    value = ~data
    magnitude = ((((value & 15).astype(np.int32) << 3) + 132) << ((value >> 4) & 7).astype(np.int32)) - 132
    return np.where(value & 128, -magnitude, magnitude).astype(np.float64)


def a_law(data: np.ndarray) -> np.ndarray:
    """Return the 16-bit values of A-law bytes (ITU-T G.711), float64."""
    value = data ^ 0x55
    step, power = (value & 15).astype(np.int32) << 4, ((value >> 4) & 7).astype(np.int32)
    magnitude = np.where(power == 0, step + 8, (step + 264) << np.maximum(power - 1, 0))
    return np.where(value & 128, magnitude, -magnitude).astype(np.float64)
