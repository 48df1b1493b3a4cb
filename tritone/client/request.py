"""The tensors of one request, made from Python values; InvalidArgument for values that cannot be sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tritone.client.errors import InvalidArgument

NUMBERS = {"FP32": "float32", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}
"""NumPy's names of Triton's datatypes."""


def request_arrays(
    text: str | None = None,
    *,
    speaker: str | None = None,
    reference: np.ndarray | None = None,
    reference_text: str | None = None,
    instruct_text: str | None = None,
    source: np.ndarray | None = None,
    mode: str | None = None,
    speed: float | None = None,
    seed: int | None = None,
    text_frontend: bool | None = None,
) -> dict[str, np.ndarray]:
    """Return the tensors of one request by name; None leaves an input to the server's default.

    Texts are BYTES [1, 1]; recordings FP32 [1, samples] beside their lengths INT32 [1, 1]; `speed` FP32 [1, 1]; `seed`
    INT64 [1, 1]; `text_frontend` BOOL [1, 1]. The server checks the values; only what no tensor can hold is
    refused here.

    Args:
        text: the text; None for voice conversion.
        speaker: a registered voice.
        reference: a recording at 16 kHz of the voice to speak with, float `[samples]` between -1 and 1.
        reference_text: its transcript.
        instruct_text: an instruction on how to speak.
        source: a recording to convert to the voice, instead of a text.
        mode: the mode's name; by default the one that the other inputs imply.
        text_frontend: False sends the text to the model as it is written: no numbers in words, no division.

    Raises InvalidArgument, which names the argument.
    """
    if text is None and source is None:
        raise InvalidArgument("text: is missing; only voice conversion, which has a source, goes without")
    texts = {
        "target_text": text,
        "mode": mode,
        "speaker": speaker,
        "reference_text": reference_text,
        "instruct_text": instruct_text,
    }
    arrays = {name: text_array(name, value) for name, value in texts.items() if value is not None}
    for name, wav in (("reference", reference), ("source", source)):
        if wav is not None:
            arrays[f"{name}_wav"] = recording_array(name, wav)
            arrays[f"{name}_wav_len"] = np.array([[arrays[f"{name}_wav"].shape[1]]], np.int32)
    if speed is not None:
        arrays["speed"] = np.array([[number("speed", speed)]], np.float32)
    if seed is not None:
        if number("seed", seed) != int(seed) or not 0 <= seed < 2**63:
            raise InvalidArgument(f"seed: is {seed!r}; it is a whole number from 0 to 2**63 - 1")
        arrays["seed"] = np.array([[int(seed)]], np.int64)
    if text_frontend is not None:
        if not isinstance(text_frontend, bool):
            raise InvalidArgument(f"text_frontend: is {text_frontend!r}; it is True or False")
        arrays["text_frontend"] = np.array([[text_frontend]])
    return arrays


def further_arrays(values: Mapping[str, Any], declared: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return the tensors of inputs that only some models have, such as the language of a multilingual one.

    Args:
        values: a text, a number, several of them (also written, with commas) or a recording, by name of the input.
        declared: Triton's datatype of each of the model's inputs by name.

    Raises InvalidArgument for a name the model does not have, and for what its datatype cannot hold.
    """
    arrays = {}
    for name, value in values.items():
        if name not in declared:
            raise InvalidArgument(f"{name}: the model has no such input; its inputs are {', '.join(sorted(declared))}")
        if declared[name] in ("TYPE_STRING", "BYTES"):
            arrays[name] = text_array(name, value)
            continue
        kind = np.dtype(NUMBERS.get(declared[name].removeprefix("TYPE_"), "float32"))
        try:
            written = value.split(",") if isinstance(value, str) else value
            given = np.asarray(written, np.float64).reshape(1, -1)
        except (TypeError, ValueError):
            raise InvalidArgument(f"{name}: is {value!r}; the model takes numbers ({kind})") from None
        if not given.size or not np.isfinite(given).all() or (kind.kind == "i" and (given != np.round(given)).any()):
            raise InvalidArgument(f"{name}: is {value!r}; the model takes numbers ({kind})")
        arrays[name] = given.astype(kind)
    return arrays


def text_array(name: str, value: str) -> np.ndarray:
    """Return a text as BYTES [1, 1]."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{name}: is of type {type(value).__name__}, not a text")
    try:
        return np.array([[value.encode("utf-8")]], dtype=np.object_)
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{name}: the text cannot be sent as UTF-8: {error}") from None


def recording_array(name: str, value: np.ndarray) -> np.ndarray:
    """Return a recording as float32 [1, samples]."""
    wav = np.asarray(value)
    if not np.issubdtype(wav.dtype, np.floating):
        raise InvalidArgument(f"{name}: holds {wav.dtype}; send float samples between -1 and 1, such as int16 / 32768")
    if wav.ndim == 0 or wav.size != wav.shape[-1]:
        raise InvalidArgument(f"{name}: has the shape {list(wav.shape)}; send the samples of one channel")
    return wav.reshape(1, -1).astype(np.float32)


def number(name: str, value: float) -> float:
    """Return the value, if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise InvalidArgument(f"{name}: is {value!r}, not a finite number")
    return value
