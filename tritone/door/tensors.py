"""Checks of a tensor in a request: its shape, its type and the bytes that came with it must agree.

Triton 2.51 multiplies sizes without a check for overflow, so a shape such as [1, 2^62] of four-byte numbers passes as
empty and ends the model's process. Here sizes are Python integers, and nothing is allocated from a shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tritone.door.refusal import Refused, invalid

SIZES = {
    "BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8,
    "FP16": 2, "FP32": 4, "FP64": 8, "BF16": 2,
}  # fmt: skip
"""Bytes of one element of each of Triton's datatypes; BYTES elements carry their own length."""
MAX_RANK = 8
MAX_TENSORS = 32
NAME_LENGTH = 128
MAX_TEXTS = 256
ID_LENGTH = 256
"""Characters of the id that a client may give its request."""


def check_shape(name: str, datatype: str, shape: Sequence[int], most_bytes: int) -> int:
    """Return the number of elements of a tensor; raise Refused unless the shape is plausible within `most_bytes`."""
    if datatype != "BYTES" and datatype not in SIZES:
        raise invalid(name, f"has the datatype {datatype!r}; known are BYTES, {', '.join(SIZES)}")
    if len(shape) > MAX_RANK:
        raise invalid(name, f"has {len(shape)} dimensions; the limit is {MAX_RANK}")
    if any(size < 0 for size in shape):
        raise invalid(name, f"has the shape {list(shape)}; sizes are 0 or more")
    elements = math.prod(shape)
    if datatype == "BYTES" and elements > MAX_TEXTS:
        raise invalid(name, f"has the shape {shorten(shape)}; the limit is {MAX_TEXTS} texts")
    # A text takes four bytes for its length even when it is empty.
    needed = elements * (4 if datatype == "BYTES" else SIZES[datatype])
    if needed > most_bytes or any(size > most_bytes for size in shape):
        raise invalid(name, f"has the shape {shorten(shape)}, which needs {needed} bytes; the limit is {most_bytes}")
    return elements


def check_data(name: str, datatype: str, elements: int, data: bytes) -> None:
    """Raise Refused unless raw data holds exactly that many elements."""
    if datatype == "BYTES":
        count = count_texts(name, data, elements)
        if count != elements:
            raise invalid(name, f"holds {count} texts; its shape has room for {elements}")
    elif len(data) != elements * SIZES[datatype]:
        raise invalid(name, f"holds {len(data)} bytes; its shape needs {elements * SIZES[datatype]}")


def count_texts(name: str, data: bytes, most: int) -> int:
    """Return the number of texts in raw BYTES data, each behind its length; stop counting above `most`."""
    place = count = 0
    while place < len(data) and count <= most:
        length = int.from_bytes(data[place : place + 4], "little")
        place += 4 + length
        if place > len(data):
            raise invalid(name, f"ends within text {count + 1}, which should be {length} bytes long")
        count += 1
    return count


def check_names(names: Sequence[str]) -> None:
    """Raise Refused if names of tensors are missing, repeated, too long or too many."""
    if len(names) > MAX_TENSORS:
        raise Refused("INVALID_ARGUMENT", f"the request has {len(names)} tensors; the limit is {MAX_TENSORS}")
    for name in names:
        if not name or len(name) > NAME_LENGTH:
            raise Refused(
                "INVALID_ARGUMENT", f"a tensor's name has {len(name)} characters; 1 to {NAME_LENGTH} are valid"
            )
        if names.count(name) > 1:
            raise invalid(name, "was sent more than once")


def shorten(shape: Sequence[int]) -> str:
    """Return the shape as text of bounded length."""
    text = str(list(shape))
    return text if len(text) <= 100 else text[:97] + "..."
