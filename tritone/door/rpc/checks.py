"""Checks of a gRPC request before Triton sees it."""

from __future__ import annotations

from collections.abc import Sequence

from tritonclient.grpc import service_pb2 as pb

from tritone.door.refusal import Refused, invalid
from tritone.door.tensors import ID_LENGTH, check_data, check_names, check_shape

TYPED = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""The field in which a request can carry its values one by one, for each datatype."""
PARAMETERS = (
    "sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "triton_enable_empty_final_response",
)  # fmt: skip
"""The parameters that a request may have; those of tensors name shared memory, which is closed to clients."""


def check_request(request: pb.ModelInferRequest, most_bytes: int) -> int:
    """Return the bytes of the request's longest text; raise Refused naming what is wrong with it."""
    if len(request.id) > ID_LENGTH:
        raise Refused(
            "INVALID_ARGUMENT", f"the request's id has {len(request.id)} characters; the limit is {ID_LENGTH}"
        )
    if request.model_version and not (request.model_version.isdecimal() and len(request.model_version) < 10):
        raise Refused("INVALID_ARGUMENT", "the model's version is not a number; leave it out for the only one")
    check_parameters("the request", request.parameters, PARAMETERS)
    check_names([tensor.name for tensor in request.inputs])
    check_names([tensor.name for tensor in request.outputs])
    for output in request.outputs:
        check_parameters(f"output {output.name}", output.parameters, ())
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Refused("INVALID_ARGUMENT", f"{len(request.inputs)} inputs came with {len(raw)} raw contents")
    longest = 0
    for index, tensor in enumerate(request.inputs):
        check_parameters(f"input {tensor.name}", tensor.parameters, ())
        elements = check_shape(tensor.name, tensor.datatype, tensor.shape, most_bytes)
        if raw:
            if tensor.HasField("contents"):
                raise invalid(tensor.name, "has raw and typed contents; send one of them")
            check_data(tensor.name, tensor.datatype, elements, raw[index])
            size = len(raw[index])
        else:
            size = check_typed(tensor, elements)
        if tensor.datatype == "BYTES":
            longest = max(longest, size)
    return longest


def check_typed(tensor: pb.ModelInferRequest.InferInputTensor, elements: int) -> int:
    """Return the bytes of typed contents; raise Refused unless they are as many values as the shape has."""
    field = TYPED.get(tensor.datatype)
    if field is None:
        raise invalid(tensor.name, f"has the datatype {tensor.datatype}, which needs raw contents")
    extra = [entry.name for entry, _ in tensor.contents.ListFields() if entry.name != field]
    if extra:
        raise invalid(tensor.name, f"has {extra[0]}; {tensor.datatype} belongs into {field}")
    values = getattr(tensor.contents, field)
    if len(values) != elements:
        raise invalid(tensor.name, f"holds {len(values)} values; its shape has room for {elements}")
    return sum(map(len, values)) if tensor.datatype == "BYTES" else 8 * len(values)


def check_parameters(owner: str, parameters: Sequence[str], known: tuple[str, ...]) -> None:
    """Raise Refused for parameters that are not known."""
    for name in parameters:
        if name not in known:
            hint = f"; known are {', '.join(known)}" if known else "; shared memory is closed to clients"
            raise Refused("INVALID_ARGUMENT", f"{owner} has the parameter {name[:100]!r}{hint}")


def is_piece(request: pb.ModelInferRequest) -> bool:
    """Return True for a request that brings a further piece of a text which an earlier one began."""
    entry = request.parameters
    sequence = entry.get("sequence_id")
    if sequence is None or not (sequence.int64_param or sequence.string_param or sequence.uint64_param):
        return False
    return not ("sequence_start" in entry and entry["sequence_start"].bool_param)
