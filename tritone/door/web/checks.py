"""Checks of an HTTP request before Triton sees it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tritone.door.refusal import Refused, invalid
from tritone.door.tensors import ID_LENGTH, MAX_RANK, check_data, check_names, check_shape, shorten
from tritone.door.web.json_body import Json, parse, write

MANY = 1000
"""Numbers in JSON from which they are sent on in binary, which is a tenth of the work for both sides."""
REQUEST_KEYS = ("id", "parameters", "inputs", "outputs")
INPUT_KEYS = ("name", "shape", "datatype", "parameters", "data")
OUTPUT_KEYS = ("name", "parameters")
PARAMETERS = ("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output")
KINDS: dict[str, set[type]] = {"BYTES": {str}, "BOOL": {bool}}
WHOLE = {
    **{f"INT{bits}": (-(1 << bits - 1), 1 << bits - 1) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": (0, 1 << bits) for bits in (8, 16, 32, 64)},
}
"""The half-open range of each datatype of whole numbers. Triton 2.51 drops the bits that are too many."""
PACKED = {"FP32": np.float32, "FP64": np.float64}


@dataclass(frozen=True)
class Checked:
    """A request that passed the checks, ready to be sent.

    Args:
        json: its JSON without an id.
        binary: the raw data behind the JSON; None if the request has none.
        text: bytes of its longest text.
        client_id: the id its client gave it, or "".
        piece: whether it brings a further piece of a text that another request began.
        arriving: whether its text arrives in pieces.
    """

    json: bytes
    binary: bytes | None
    text: int
    client_id: str
    piece: bool
    arriving: bool

    def json_with(self, inside: str) -> bytes:
        """Return the JSON with the id that the request has inside Triton."""
        return b'{"id":"' + inside.encode() + (b'",' if len(self.json) > 2 else b'"') + self.json[1:]


def check_infer(data: bytes, end: int | None, most_bytes: int) -> Checked:
    """Return the request in the body of `infer`; raise Refused naming what is wrong with it.

    Args:
        end: where the JSON ends and the raw data of inputs that have a `binary_data_size` begins; None without such.
    """
    body, binary = parse(data[:end]), b"" if end is None else data[end:]
    check_keys("the request", body, REQUEST_KEYS)
    client_id, parameters = id_of(body), check_parameters("the request", body.get("parameters", {}), PARAMETERS)
    if not body.get("inputs"):
        raise Refused("INVALID_ARGUMENT", "the request has no inputs; target_text is the text to speak")
    inputs, outputs = objects(body, "inputs"), objects(body, "outputs")
    check_names([text_of(tensor, "name") for tensor in inputs])
    check_names([text_of(tensor, "name") for tensor in outputs])
    for output in outputs:
        check_keys(f"output {output['name']}", output, OUTPUT_KEYS)
        check_parameters(f"output {output['name']}", output.get("parameters", {}), ("binary_data",))
    longest, place, raw = 0, 0, []
    for tensor in inputs:
        taken, text = check_input(tensor, binary, place, most_bytes)
        raw.append(binary[place : place + taken] if taken else packed(tensor))
        place += taken
        longest = max(longest, text)
    if place != len(binary):
        raise Refused("INVALID_ARGUMENT", f"{len(binary)} bytes follow the JSON; its inputs have {place}")
    behind = b"".join(raw) if end is not None or any(raw) else None
    return Checked(written(body), behind, longest, client_id, *sequence(parameters))


def check_input(tensor: Json, binary: bytes, place: int, most_bytes: int) -> tuple[int, int]:
    """Return the binary bytes that an input takes from `place` on, and the bytes of its text if it is one."""
    name = tensor["name"]
    check_keys(f"input {name}", tensor, INPUT_KEYS)
    parameters = check_parameters(f"input {name}", tensor.get("parameters", {}), ("binary_data_size",))
    datatype, shape = text_of(tensor, "datatype"), tensor.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and abs(size) < 1 << 63 for size in shape):
        raise invalid(name, "has no shape that is a list of whole numbers of 64 bits")
    elements = check_shape(name, datatype, shape, most_bytes)
    if "binary_data_size" in parameters:
        size, left = parameters["binary_data_size"], len(binary) - place
        if "data" in tensor or type(size) is not int or not 0 <= size <= left:
            raise invalid(name, f"has a binary_data_size of {size!r}, with {left} bytes left and no other data")
        check_data(name, datatype, elements, binary[place : place + size])
        return size, size if datatype == "BYTES" else 0
    values = tensor["data"] = flat(name, tensor.get("data"))
    if len(values) != elements:
        raise invalid(name, f"holds {len(values)} values; its shape {shorten(shape)} has room for {elements}")
    kinds = KINDS.get(datatype, {int} if datatype in WHOLE else {int, float})
    low, high = WHOLE.get(datatype, (-(1 << 63), 1 << 64))
    if not set(map(type, values)) <= kinds or any(type(value) is int and not low <= value < high for value in values):
        raise invalid(name, f"has a value that is no {datatype}")
    return 0, sum(size_of(name, value) for value in values) if datatype == "BYTES" else 0


def packed(tensor: Json) -> bytes:
    """Return many numbers of an input as raw data in place of its JSON; b"" if it stays as it is."""
    kind, values = PACKED.get(tensor["datatype"]), tensor.get("data", ())
    if kind is None or len(values) < MANY:
        return b""
    with np.errstate(over="ignore"):  # as Triton does: too large for FP32 is infinite
        data = np.array(values, np.float64).astype(kind).tobytes()
    del tensor["data"]
    tensor["parameters"] = {"binary_data_size": len(data)}
    return data


def flat(name: str, data: Any) -> list[Any]:
    """Return the values of nested lists in order."""
    if not isinstance(data, list):
        raise invalid(name, "has no data that is a list")
    for _ in range(MAX_RANK):
        kinds = set(map(type, data))
        if list not in kinds:
            return data
        if len(kinds) > 1:
            raise invalid(name, "has lists beside values in its data")
        data = [value for row in data for value in row]
    raise invalid(name, f"has data nested more than {MAX_RANK} deep")


def check_generate(data: bytes, declared: Mapping[str, str]) -> Checked:
    """Return the request in the body of `generate`, whose keys are the model's inputs; raise Refused if it is wrong.

    Args:
        declared: Triton's datatype of each of the model's inputs by name. Triton itself drops other keys in silence.
    """
    body = parse(data)
    client_id, parameters = id_of(body), check_parameters("the request", body.get("parameters", {}), PARAMETERS)
    # `generate` takes these as the request's own as well.
    own = {name: value for name, value in body.items() if name in PARAMETERS and name not in declared}
    check_parameters("the request", own, PARAMETERS)
    inputs = {name: value for name, value in body.items() if name not in ("id", "parameters", *own)}
    check_names(list(inputs))
    if not inputs:
        raise Refused("INVALID_ARGUMENT", f"the request has no inputs; the model's are {', '.join(declared)}")
    longest = 0
    for name, value in inputs.items():
        if name not in declared:
            raise invalid(name[:100], f"the model has no such input; its inputs are {', '.join(declared)}")
        for item in value if isinstance(value, list) else [value]:
            longest = max(longest, check_value(name, declared[name], item))
    return Checked(written(body), None, longest, client_id, *sequence({**own, **parameters}))


def check_value(name: str, datatype: str, item: Any) -> int:
    """Return the bytes of a value of `generate` if it is a text, otherwise 0; raise Refused for another type."""
    if not isinstance(item, str | int | float):
        raise invalid(name, "is neither a text or number nor a list of them")
    if isinstance(item, int) and not in_64_bits(item):
        raise invalid(name, "has a whole number of more than 64 bits")
    kind = str if datatype == "BYTES" else bool if datatype == "BOOL" else (int, float)
    if not isinstance(item, kind) or (isinstance(item, bool) and datatype != "BOOL"):
        what = {"BYTES": "a text in quotes", "BOOL": "true or false"}.get(datatype, "a number without quotes")
        raise invalid(name, f"is {json.dumps(item)[:100]}; the model takes {what} ({datatype})")
    if datatype in WHOLE:
        if isinstance(item, float):
            raise invalid(name, f"is {item}; the model takes a whole number ({datatype})")
        low, high = WHOLE[datatype]
        if isinstance(item, int) and not low <= item < high:
            raise invalid(name, f"is {item}, which {datatype} cannot hold")
    return size_of(name, item) if isinstance(item, str) else 0


def written(body: Json) -> bytes:
    """Return the body as JSON without its id."""
    return write({key: value for key, value in body.items() if key != "id"})


def sequence(parameters: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return whether a request brings a further piece of a text, and whether its text arrives in pieces."""
    arriving = bool(parameters.get("sequence_id"))
    return arriving and not parameters.get("sequence_start"), arriving


def id_of(body: Json) -> str:
    """Return the client's id; raise Refused unless it is a text of bounded length."""
    value = body.get("id", "")
    if not isinstance(value, str) or len(value) > ID_LENGTH:
        raise Refused("INVALID_ARGUMENT", f"the request's id is not a text of at most {ID_LENGTH} characters")
    return value


def size_of(name: str, text: str) -> int:
    """Return the bytes of a text; raise Refused for half a character, which JSON can hold and UTF-8 cannot."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise invalid(name, "is not valid Unicode: it has half of a pair of surrogates") from None


def in_64_bits(value: int) -> bool:
    """Return True for a whole number that Triton's parser can hold."""
    return -(1 << 63) <= value < 1 << 64


def check_keys(owner: str, value: Json, known: tuple[str, ...]) -> None:
    """Raise Refused for keys that Triton's protocol does not have."""
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise Refused("INVALID_ARGUMENT", f"{owner} has the key {unknown[0][:100]!r}; known are {', '.join(known)}")


def check_parameters(owner: str, parameters: Any, known: tuple[str, ...]) -> Json:
    """Return the parameters; raise Refused for those that are unknown, or not a text, a number or a boolean."""
    if not isinstance(parameters, dict):
        raise Refused("INVALID_ARGUMENT", f"{owner} has parameters that are not a JSON object")
    for name, value in parameters.items():
        if name not in known:
            raise Refused(
                "INVALID_ARGUMENT",
                f"{owner} has the parameter {name[:100]!r}; known are {', '.join(known)}; shared memory is closed to "
                "clients",
            )
        text = isinstance(value, str) and len(value) <= ID_LENGTH
        whole = isinstance(value, int) and in_64_bits(value)
        if not (text or whole or (isinstance(value, float) and math.isfinite(value))):
            raise Refused("INVALID_ARGUMENT", f"{owner} has the parameter {name!r} with the value {str(value)[:50]}")
    return parameters


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
