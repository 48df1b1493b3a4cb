"""JSON of requests: parsed within bounds, and written anew, so that Triton reads exactly what was checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from tritone.door.refusal import Refused, invalid
from tritone.door.tensors import check_data, check_names, check_shape

DEPTH = 32
"""Deepest nesting; a tensor has at most eight dimensions."""
ID_LENGTH = 256
REQUEST_KEYS = ("id", "parameters", "inputs", "outputs")
INPUT_KEYS = ("name", "shape", "datatype", "parameters", "data")
OUTPUT_KEYS = ("name", "parameters")
PARAMETERS = ("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output")
Json = dict[str, Any]


def parse(data: bytes) -> Json:
    """Return the JSON object in a body; raise Refused for other JSON, deep nesting, and keys that come twice."""
    check_depth(data)
    try:
        value = json.loads(data, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Refused("INVALID_ARGUMENT", f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise Refused("INVALID_ARGUMENT", "the body is not a JSON object")
    return value


def check_depth(data: bytes) -> None:
    """Raise Refused if brackets are nested too deeply, before a parser goes down with them."""
    # Brackets within texts count as well, so this can only be too strict: a text with 32 of them more open than closed.
    depth = 0
    for byte in data.translate(None, delete=NO_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        if depth > DEPTH:
            raise Refused("INVALID_ARGUMENT", f"the JSON is nested more than {DEPTH} deep")


NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def unique(pairs: list[tuple[str, Any]]) -> Json:
    """Return the object of these pairs; parsers disagree about which of two equal keys counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice in one object")
    return found


def check_infer(body: Json, binary: bytes, most_bytes: int) -> int:
    """Return the bytes of the longest text of an inference request; raise Refused naming what is wrong with it.

    Args:
        binary: what follows the JSON: the raw data of inputs that have a `binary_data_size`.
    """
    check_keys("the request", body, REQUEST_KEYS)
    check_id(body)
    check_parameters("the request", body.get("parameters", {}), PARAMETERS)
    inputs, outputs = objects(body, "inputs"), objects(body, "outputs")
    check_names([text_of(tensor, "name") for tensor in inputs])
    check_names([text_of(tensor, "name") for tensor in outputs])
    for output in outputs:
        check_keys(f"output {output['name']}", output, OUTPUT_KEYS)
        check_parameters(f"output {output['name']}", output.get("parameters", {}), ("binary_data",))
    longest = place = 0
    for tensor in inputs:
        size, data = check_input(tensor, binary[place:], most_bytes)
        place += size
        longest = max(longest, data)
    if place != len(binary):
        raise Refused("INVALID_ARGUMENT", f"{len(binary)} bytes follow the JSON; its inputs have {place}")
    return longest


def check_input(tensor: Json, binary: bytes, most_bytes: int) -> tuple[int, int]:
    """Return the binary bytes that an input takes, and the bytes of its text if it is one."""
    name = tensor["name"]
    check_keys(f"input {name}", tensor, INPUT_KEYS)
    parameters = tensor.get("parameters", {})
    check_parameters(f"input {name}", parameters, ("binary_data_size",))
    datatype, shape = text_of(tensor, "datatype"), tensor.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise invalid(name, "has no shape that is a list of whole numbers")
    elements = check_shape(name, datatype, shape, most_bytes)
    is_text = datatype == "BYTES"
    if "binary_data_size" in parameters:
        size = parameters["binary_data_size"]
        if "data" in tensor or type(size) is not int or not 0 <= size <= len(binary):
            raise invalid(name, f"has a binary_data_size of {size!r}, with {len(binary)} bytes left and no other data")
        check_data(name, datatype, elements, binary[:size])
        return size, size if is_text else 0
    values = flat(name, tensor.get("data"))
    if len(values) != elements:
        raise invalid(name, f"holds {len(values)} values; its shape has room for {elements}")
    kind = str if is_text else bool if datatype == "BOOL" else (int, float)
    if not all(isinstance(value, kind) for value in values):
        raise invalid(name, f"has a value that is no {datatype}")
    return 0, sum(len(value.encode()) for value in values) if is_text else 0


def flat(name: str, data: Any) -> list[Any]:
    """Return the values of nested lists in order."""
    if not isinstance(data, list):
        raise invalid(name, "has no data that is a list")
    while any(isinstance(value, list) for value in data):
        if not all(isinstance(value, list) for value in data):
            raise invalid(name, "has lists beside values in its data")
        data = [value for row in data for value in row]
    return data


def check_generate(body: Json) -> int:
    """Return the bytes of the longest text of a `generate` request, whose keys are the model's inputs."""
    check_id(body)
    check_parameters("the request", body.get("parameters", {}), PARAMETERS)
    longest = 0
    for name, value in body.items():
        if name in ("id", "parameters"):
            continue
        check_names([name])
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, str | int | float | bool):
                raise invalid(name, "is neither a text or number nor a list of them")
            if isinstance(item, str):
                longest = max(longest, len(item.encode()))
    return longest


def check_id(body: Json) -> None:
    """Raise Refused unless the id is a text of bounded length."""
    value = body.get("id", "")
    if not isinstance(value, str) or len(value) > ID_LENGTH:
        raise Refused("INVALID_ARGUMENT", f"the request's id is not a text of at most {ID_LENGTH} characters")


def check_keys(owner: str, value: Json, known: tuple[str, ...]) -> None:
    """Raise Refused for keys that Triton's protocol does not have."""
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise Refused("INVALID_ARGUMENT", f"{owner} has the key {unknown[0][:100]!r}; known are {', '.join(known)}")


def check_parameters(owner: str, parameters: Any, known: tuple[str, ...]) -> None:
    """Raise Refused for parameters that are unknown, or not a text, a number or a boolean."""
    if not isinstance(parameters, Mapping):
        raise Refused("INVALID_ARGUMENT", f"{owner} has parameters that are not a JSON object")
    for name, value in parameters.items():
        if name not in known:
            raise Refused(
                "INVALID_ARGUMENT",
                f"{owner} has the parameter {name[:100]!r}; known are {', '.join(known)}; shared memory is closed to "
                "clients",
            )
        whole = isinstance(value, int) and abs(value) < 1 << 63
        if not (whole or isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))):
            raise Refused("INVALID_ARGUMENT", f"{owner} has the parameter {name!r} with the value {str(value)[:50]}")


def objects(body: Json, key: str) -> list[Json]:
    """Return the list of objects under a key; an absent one is empty."""
    value = body.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Refused("INVALID_ARGUMENT", f"{key} is not a list of JSON objects")
    return value


def text_of(tensor: Json, key: str) -> str:
    """Return the text under a key of a tensor."""
    value = tensor.get(key)
    if not isinstance(value, str):
        raise Refused("INVALID_ARGUMENT", f"a tensor has no {key} that is a text")
    return value


def write(body: Json) -> bytes:
    """Return the body as JSON that every parser reads alike."""
    return json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode()
