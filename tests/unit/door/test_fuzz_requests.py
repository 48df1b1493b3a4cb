"""Requests of any content over both protocols: they pass as they were checked, or are refused in a sentence."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from support.door_helpers import INPUTS
from support.fuzzing import examples
from tritonclient.grpc import service_pb2 as pb

from tritone.door.refusal import HTTP_STATUS, Refused
from tritone.door.rpc.checks import check_request, is_piece
from tritone.door.tensors import SIZES
from tritone.door.web.checks import Checked, check_generate, check_infer

MOST = 1 << 16
NAMES = st.sampled_from([*INPUTS, "text_input", "id", "parameters", "sequence_id", ""]) | st.text(max_size=5)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 1 << 31, 1 << 63, 1 << 64, 1e308])
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | st.just("\ud800")
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=8) | st.dictionaries(
    st.text(max_size=3), SCALARS, max_size=2
)
TYPES = st.sampled_from(["BYTES", *SIZES, "FP31", "bytes"])
SIZE = st.integers(0, 4) | st.integers(-(1 << 65), 1 << 65)
PARAMETERS = st.dictionaries(
    st.sampled_from(["sequence_id", "sequence_start", "binary_data_output", "timeout", "shared_memory_region"]), SCALARS
)


ANY_TENSOR = st.fixed_dictionaries({}, optional={
    "name": NAMES, "shape": st.lists(SIZE, max_size=4) | VALUES, "datatype": TYPES | VALUES, "data": VALUES,
    "parameters": st.fixed_dictionaries({"binary_data_size": SIZE}) | VALUES, "extra": VALUES,
})  # fmt: skip
BODIES = st.fixed_dictionaries(
    {}, optional={
        "inputs": st.lists(ANY_TENSOR, max_size=3) | VALUES,
        "outputs": st.lists(st.fixed_dictionaries({"name": NAMES}), max_size=2) | VALUES,
        "id": st.text(max_size=4) | VALUES, "parameters": PARAMETERS | VALUES, "more": VALUES,
    },
)  # fmt: skip


@st.composite
def agreeing(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """Return a request that agrees with itself, some of its inputs in binary, and with one key changed at times."""
    inputs, binary = [], b""
    for name in draw(st.lists(st.sampled_from(sorted(INPUTS)), min_size=1, max_size=3, unique=True)):
        datatype, count = draw(st.sampled_from(["BYTES", "BOOL", "FP32", "INT32", "INT64"])), draw(st.integers(0, 4))
        tensor: dict[str, Any] = {"name": name, "shape": [1, count], "datatype": datatype}
        if draw(st.booleans()):
            size = SIZES.get(datatype, 4)
            tensor["parameters"] = {"binary_data_size": size * count}
            binary += bytes(size * count)
        else:
            one = {"BYTES": st.text(max_size=5), "BOOL": st.booleans(), "FP32": NUMBERS}.get(
                datatype, st.integers(0, 9)
            )
            tensor["data"] = draw(st.lists(one, min_size=count, max_size=count))
        inputs.append(tensor)
    if draw(st.integers(0, 2)) == 0:
        inputs[0][draw(st.sampled_from(["shape", "data", "datatype", "name"]))] = draw(VALUES)
    return {"inputs": inputs, "id": draw(st.text(max_size=4))}, binary + draw(st.sampled_from([b"", b"", b"x"]))


def refused_in_words(refusal: Refused) -> None:
    """Assert what every refusal has: the client's fault, a sentence of bounded length."""
    assert HTTP_STATUS[refusal.status] in (400, 413)
    assert 10 < len(str(refusal)) < 2000 and "Traceback" not in str(refusal)


def passed(checked: Checked) -> dict[str, Any]:
    """Return the JSON that is sent on, which has one reading for every parser."""
    body: dict[str, Any] = json.loads(checked.json_with("inside").decode("ascii"))
    assert body["id"] == "inside" and checked.text >= 0 and len(checked.client_id) <= 256
    return body


@examples(50)
@given(agreeing() | st.tuples(BODIES, st.none() | st.binary(max_size=40)))
def test_any_infer_passes_as_it_was_checked_or_is_refused(request: tuple[dict[str, Any], bytes | None]) -> None:
    body, binary = request
    data = json.dumps(body).encode()
    try:
        checked = check_infer(data + (binary or b""), None if binary is None else len(data), MOST)
    except Refused as refusal:
        refused_in_words(refusal)
        return
    held = 0
    for tensor in passed(checked)["inputs"]:
        elements = math.prod(tensor["shape"])
        size = tensor.get("parameters", {}).get("binary_data_size", 0)
        held += size
        if "data" in tensor:
            assert len(tensor["data"]) == elements and not size
        elif tensor["datatype"] != "BYTES":
            assert size == elements * SIZES[tensor["datatype"]]
    assert held == len(checked.binary or b"")


@examples(50)
@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_any_generate_has_the_models_inputs_of_their_types_or_is_refused(body: dict[str, Any]) -> None:
    try:
        checked = check_generate(json.dumps(body).encode(), INPUTS)
    except Refused as refusal:
        refused_in_words(refusal)
        return
    inputs = {name: value for name, value in passed(checked).items() if name in INPUTS}
    assert inputs
    kinds = {"BYTES": str, "FP32": (int, float), "INT64": int, "INT32": int, "BOOL": bool}
    for name, value in inputs.items():
        for item in value if isinstance(value, list) else [value]:
            assert isinstance(item, kinds[INPUTS[name]])  # type: ignore[arg-type]


@examples(60)
@given(st.binary(max_size=60) | st.text('{}[]":,0123456789.eE-truefalsn\\ "inputs"', max_size=40).map(str.encode))
def test_any_bytes_are_refused_in_words(data: bytes) -> None:
    for check in (lambda: check_infer(data, None, MOST), lambda: check_generate(data, INPUTS)):
        try:
            passed(check())
        except Refused as refusal:
            refused_in_words(refusal)


@st.composite
def requests(draw: st.DrawFn) -> pb.ModelInferRequest:
    """Return a gRPC request with tensors, raw and typed contents of any sizes."""
    request = pb.ModelInferRequest(
        id=draw(st.text(max_size=5)), model_version=draw(st.sampled_from(["", "1", "x", "-1"]))
    )
    for name in draw(st.lists(st.sampled_from([*INPUTS, ""]), max_size=3)):
        tensor = request.inputs.add(name=name, datatype=draw(TYPES))
        tensor.shape.extend(draw(st.lists(st.integers(-1, 4) | st.integers(-(1 << 63), (1 << 63) - 1), max_size=4)))
        if draw(st.booleans()):
            tensor.contents.bytes_contents.extend(draw(st.lists(st.binary(max_size=4), max_size=3)))
        if draw(st.booleans()):
            tensor.contents.fp32_contents.extend(draw(st.lists(st.floats(width=32), max_size=3)))
    texts = st.binary(max_size=9).map(lambda text: struct.pack("<I", len(text)) + text)
    request.raw_input_contents.extend(draw(st.lists(st.binary(max_size=16) | texts, max_size=3)))
    for key in draw(st.lists(st.sampled_from(["sequence_id", "sequence_start", "shared_memory_region"]), max_size=2)):
        request.parameters[key].int64_param = draw(st.integers(0, 3))
    return request


@examples(50)
@given(requests() | st.binary(max_size=80))
def test_any_grpc_request_agrees_with_its_shapes_or_is_refused(request: pb.ModelInferRequest | bytes) -> None:
    if isinstance(request, bytes):
        try:
            request = pb.ModelInferRequest.FromString(request)
        except DecodeError:
            return
    is_piece(request)
    try:
        assert check_request(request, MOST) >= 0
    except Refused as refusal:
        refused_in_words(refusal)
        return
    for index, tensor in enumerate(request.inputs):
        elements = math.prod(tensor.shape)
        assert 0 <= elements <= MOST
        if request.raw_input_contents and tensor.datatype != "BYTES":
            assert len(request.raw_input_contents[index]) == elements * SIZES[tensor.datatype]
