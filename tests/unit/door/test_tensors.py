"""Shapes, types and bytes of inputs that must agree; whole kinds of those that do not."""

from __future__ import annotations

import pytest
from tritonclient.grpc import service_pb2 as pb

from tritone.door.refusal import Refused
from tritone.door.rpc.checks import check_request, is_piece
from tritone.door.tensors import SIZES

MOST = 1 << 20
OVERFLOWS = [
    [1, 1 << 62], [1, 1 << 61], [1 << 32, 1 << 32], [2, 1 << 61, 2], [1, (1 << 63) - 1], [3, 6148914691236517206],
    [1 << 20, 1 << 20, 1 << 20, 16],
]  # fmt: skip
"""Shapes whose size in bytes wraps to zero or to a small or negative number in 64 bits, for four-byte elements."""


def one(
    shape: list[int], data: bytes = b"", datatype: str = "FP32", name: str = "reference_wav"
) -> pb.ModelInferRequest:
    """Return a request with one raw input."""
    request = pb.ModelInferRequest(model_name="voice")
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    request.raw_input_contents.append(data)
    return request


@pytest.mark.parametrize("shape", OVERFLOWS)
@pytest.mark.parametrize("datatype", ["FP32", "INT64", "BYTES", "INT8", "BOOL"])
@pytest.mark.parametrize("data", [b"", bytes(64)])
def test_sizes_that_overflow_are_refused_by_name(shape: list[int], datatype: str, data: bytes) -> None:
    with pytest.raises(Refused, match=r"^INVALID_ARGUMENT: reference_wav: has the shape"):
        check_request(one(shape, data, datatype), MOST)


@pytest.mark.parametrize(
    ("shape", "data", "datatype", "problem"),
    [
        ([1, -4], b"", "FP32", r"has the shape \[1, -4\]; sizes are 0 or more"),
        ([-1, -1], b"", "FP32", "sizes are 0 or more"),
        ([1, 4], bytes(12), "FP32", "holds 12 bytes; its shape needs 16"),
        ([1, 4], bytes(20), "FP32", "holds 20 bytes; its shape needs 16"),
        ([1, 4], b"", "FP32", "holds 0 bytes; its shape needs 16"),
        ([1, 0], bytes(4), "FP32", "holds 4 bytes; its shape needs 0"),
        ([1, 0, 1 << 40], b"", "FP32", "limit is"),
        ([1] * 9, bytes(4), "FP32", "has 9 dimensions; the limit is 8"),
        ([1, 1], bytes(4), "FP4", "has the datatype 'FP4'; known are BYTES, BOOL"),
        ([1, 1], b"\x05\0\0\0abc", "BYTES", "ends within text 1, which should be 5 bytes long"),
        ([1, 1], b"\xff\xff\xff\xffabc", "BYTES", "ends within text 1, which should be 4294967295 bytes long"),
        ([1, 2], b"\x01\0\0\0a", "BYTES", "holds 1 texts; its shape has room for 2"),
        ([1, 1], b"\x00\0\0\0" * 3, "BYTES", "holds 2 texts; its shape has room for 1"),
        ([1, 1], b"\x01\0", "BYTES", "ends within text 1"),
        ([1, 1000], bytes(4000), "BYTES", r"has the shape \[1, 1000\]; the limit is 256 texts"),
    ],
)  # fmt: skip
def test_what_lies_is_refused_by_name(shape: list[int], data: bytes, datatype: str, problem: str) -> None:
    with pytest.raises(Refused, match=f"^INVALID_ARGUMENT: reference_wav: .*{problem}"):
        check_request(one(shape, data, datatype), MOST)


@pytest.mark.parametrize("datatype", [*SIZES, "BYTES"])
def test_what_is_right_passes(datatype: str) -> None:
    element = b"\x02\0\0\0ab" if datatype == "BYTES" else bytes(SIZES[datatype])
    check_request(one([1, 3], element * 3, datatype), MOST)
    check_request(one([1, 0], b"", datatype), MOST)


def typed(shape: list[int], datatype: str = "FP32", **contents: list[float]) -> pb.ModelInferRequest:
    """Return a request whose only input has typed contents."""
    request = pb.ModelInferRequest(model_name="voice")
    tensor = request.inputs.add(name="speed", datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    return request


def test_typed_contents_are_counted() -> None:
    check_request(typed([1, 2], fp32_contents=[1.0, 2.0]), MOST)
    for request, problem in (
        (typed([1, 2], fp32_contents=[1.0]), "holds 1 values; its shape has room for 2"),
        (typed([1, 1], fp64_contents=[1.0]), "has fp64_contents; FP32 belongs into fp32_contents"),
        (typed([1, 1 << 62]), "has the shape"),
        (typed([1, 1], datatype="FP16"), "has the datatype FP16, which needs raw contents"),
    ):
        with pytest.raises(Refused, match=f"^INVALID_ARGUMENT: speed: {problem}"):
            check_request(request, MOST)


def test_raw_and_typed_contents_together_are_refused() -> None:
    request = typed([1, 1], fp32_contents=[1.0])
    request.raw_input_contents.append(bytes(4))
    with pytest.raises(Refused, match="speed: has raw and typed contents"):
        check_request(request, MOST)


def test_as_many_raw_contents_as_inputs() -> None:
    request = one([1, 1], bytes(4))
    request.raw_input_contents.append(bytes(4))
    with pytest.raises(Refused, match="1 inputs came with 2 raw contents"):
        check_request(request, MOST)


@pytest.mark.parametrize("where", ["inputs", "outputs"])
def test_shared_memory_is_closed(where: str) -> None:
    request = one([1, 1], bytes(4))
    request.outputs.add(name="waveform")
    getattr(request, where)[0].parameters["shared_memory_region"].string_param = "tritone-x"
    with pytest.raises(Refused, match="has the parameter 'shared_memory_region'; shared memory is closed to clients"):
        check_request(request, MOST)


def test_unknown_parameters_names_and_ids_are_refused() -> None:
    request = one([1, 1], bytes(4))
    request.parameters["odd"].bool_param = True
    with pytest.raises(Refused, match="the request has the parameter 'odd'; known are sequence_id"):
        check_request(request, MOST)
    with pytest.raises(Refused, match="the request's id has 300 characters; the limit is 256"):
        check_request(pb.ModelInferRequest(id="x" * 300), MOST)
    with pytest.raises(Refused, match="version is not a number"):
        check_request(pb.ModelInferRequest(model_version="../1"), MOST)
    for names in (["", "a"], ["x" * 200, "a"], ["a", "a"], [str(n) for n in range(40)]):
        request = pb.ModelInferRequest()
        for name in names:
            request.inputs.add(name=name, datatype="FP32", shape=[0])
        with pytest.raises(Refused):
            check_request(request, MOST)


def test_the_longest_text_is_measured() -> None:
    assert check_request(one([1, 1], b"\x05\0\0\0hello", "BYTES", "target_text"), MOST) == 9
    assert check_request(one([1, 2], bytes(8)), MOST) == 0


def test_further_pieces_of_a_text_are_recognised() -> None:
    request = one([1, 1], bytes(4))
    assert not is_piece(request)
    request.parameters["sequence_id"].int64_param = 7
    assert is_piece(request)
    request.parameters["sequence_start"].bool_param = True
    assert not is_piece(request)
