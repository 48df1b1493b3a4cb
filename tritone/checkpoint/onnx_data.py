"""The data files that an ONNX file keeps weights in, read from its bytes: a stage's identity includes them.

Sizes of fields are read and their contents skipped, so that a file of gigabytes takes milliseconds. Standard library
only.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

MESSAGES = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""The messages of the ONNX format in which tensors lie: kind -> number of a field -> kind of its content."""
VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
LONGEST_NAME = 4096


def data_files(path: Path) -> list[str]:
    """Return the names of the data files, relative to the ONNX file's folder, sorted; none for a damaged file."""
    if not path.is_file() or not path.stat().st_size:
        return []
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        names: set[str] = set()
        try:
            waiting = [("model", 0, len(content))]
            while waiting:
                kind, start, end = waiting.pop()
                if kind == "entry":
                    names |= _location(content, start, end)
                    continue
                inner, found = MESSAGES[kind], fields(content, start, end)
                waiting += [(inner[number], at, to) for number, at, to in found if number in inner]
        except (IndexError, ValueError):
            return []  # the engine that opens the file says what is wrong with it
    return sorted(names)


def fields(content: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (number, start, end) of the delimited fields of a message; ValueError or IndexError if it is damaged."""
    while at < end:
        tag, at = _varint(content, at)
        kind = tag & 7
        if kind == VARINT:
            _, at = _varint(content, at)
        elif kind == DELIMITED:
            size, at = _varint(content, at)
            if at + size > end:
                raise ValueError("a field is longer than its message")
            yield tag >> 3, at, at + size
            at += size
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        else:
            raise ValueError("no such kind of field")


def _location(content: mmap.mmap, start: int, end: int) -> set[str]:
    """Return the name in an entry "location" of a tensor outside its file."""
    if end - start > LONGEST_NAME:
        return set()
    parts = {number: content[at:to] for number, at, to in fields(content, start, end)}
    return {parts[2].decode("utf-8", "replace")} if parts.get(1) == b"location" and 2 in parts else set()


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    """Return a number and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number has more than ten bytes")
