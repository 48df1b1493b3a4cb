"""Fields of a request read from its tensors; every family's errors about them are the same."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from tritone.audio.reference import EMPTY, check_reference
from tritone.errors import InvalidRequest
from tritone.stage import Arrays, Tensor
from tritone.text.split import MAX_CHARACTERS

LONGEST_SECONDS = 300
"""The longest speech that one request may ask for at speed 1: whoever wants more sends more requests."""


def too_much_speech() -> InvalidRequest:
    """Return the error of a request whose speech is longer than that."""
    return InvalidRequest(
        "target_text", f"speaks longer than {LONGEST_SECONDS} s, which is the limit of one request; split the text"
    )


def check_known(request: Arrays, inputs: Iterable[Tensor]) -> None:
    """Raise InvalidRequest for a tensor that is not among the inputs."""
    names = [tensor.name for tensor in inputs]
    unknown = sorted(set(request) - set(names))
    if unknown:
        raise InvalidRequest(unknown[0], f"no such input; inputs are {', '.join(names)}")


def read_text(request: Arrays, field: str, limit: int = MAX_CHARACTERS) -> str:
    """Return the UTF-8 text of a BYTES input, "" if it was omitted.

    Raises InvalidRequest for bytes that are not UTF-8, and for more than `limit` characters without those of space
    around them: no text is tokenized before its length is known.
    """
    if field not in request or request[field].size == 0:
        return ""
    value = request[field].reshape(-1)[0]
    try:
        text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise InvalidRequest(field, f"is not UTF-8 (byte {error.start}); send the text encoded as UTF-8") from None
    if len(text) > limit and (length := len(text.strip())) > limit:
        raise InvalidRequest(field, too_long(length, limit, field))
    return text


def too_long(length: int, limit: int, field: str) -> str:
    """Return the problem of a text of so many characters."""
    remedy = "send it in parts" if field == "target_text" else "send a shorter one"
    return f"{length} characters; the limit is {limit}, {remedy}"


def read_number(request: Arrays, field: str, default: float) -> float:
    """Return the number in a [1, 1] input, `default` if it was omitted; InvalidRequest unless it is finite."""
    if field not in request or request[field].size == 0:
        return default
    value = request[field].reshape(-1)[0].item()
    if not math.isfinite(value):
        raise InvalidRequest(field, f"is {value}, not a finite number")
    return value


def sound_length(request: Arrays, field: str) -> int:
    """Return the number of valid samples of a sound input, 0 if it has none; `<field>_len` gives it."""
    size = request[field].size
    return int(read_number(request, f"{field}_len", size)) if size else 0


def has_sound(request: Arrays, field: str) -> bool:
    """Return whether a sound input was sent; InvalidRequest if it is empty, or if its length came without it."""
    if field not in request:
        if f"{field}_len" in request:
            raise InvalidRequest(f"{field}_len", f"came without {field}; send both or neither")
        return False
    if sound_length(request, field) == 0:
        raise InvalidRequest(field, EMPTY)
    return True


def read_sound(request: Arrays, field: str) -> np.ndarray:
    """Return the valid samples of a sound input, float32 `[samples]`, within the limits of a reference."""
    if not has_sound(request, field):
        raise InvalidRequest(field, "is missing; send the recording as float32 samples at 16 kHz")
    return check_reference(request[field].reshape(-1), sound_length(request, field), field=field)
