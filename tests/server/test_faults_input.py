"""Requests that anyone can send: shapes that lie, too much of everything, shared memory, closed endpoints."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from support.faults import Belongings, good_request, own_server
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc

from tritone.door.rpc.door import CLOSED
from tritone.supervisor.processes import model_processes
from tritone.supervisor.service import Service

ENTRIES = ("cosyvoice2", "cosyvoice2_stream", "speech_tokenizer", "speaker_embedding")
INNER = ("cosyvoice2_llm", "cosyvoice2_flow_encoder", "cosyvoice2_flow_decoder", "cosyvoice2_vocoder")
SHAPES = (
    [1, 1 << 62], [1, 1 << 61], [1, 1 << 60], [2, 1 << 61], [1, 1 << 32, 1 << 32], [1 << 31, 1 << 31, 4],
    [1, (1 << 63) - 1], [1, -4], [-1, 4], [1, -(1 << 62)], [1, 3074457345618258603], [], [1] * 30, [0], [1, 0, 1 << 62],
)  # fmt: skip
TENSORS = (
    ("reference_wav", "FP32"), ("source_wav", "FP32"), ("target_text", "BYTES"), ("seed", "INT64"), ("speed", "FP32"),
    ("text_token", "INT64"),
)  # fmt: skip


@pytest.fixture(scope="module")
def service(checkpoint: Path) -> Iterator[Service]:
    """A server of this file's own."""
    with own_server(checkpoint) as running:
        good_request(running)
        yield running


@pytest.fixture(scope="module")
def triton(service: Service) -> Iterator[rpc.GRPCInferenceServiceStub]:
    """The public gRPC port, without a client library that would refuse to send nonsense."""
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{service.ports.grpc}", options=options) as channel:
        yield rpc.GRPCInferenceServiceStub(channel)


def pids(service: Service) -> list[int]:
    """Return the processes of Triton and its models."""
    assert service.triton.process is not None
    server = service.triton.process.pid
    return [server, *sorted(process.pid for process in model_processes(server))]


def refusal(triton: rpc.GRPCInferenceServiceStub, request: pb.ModelInferRequest) -> tuple[str, str]:
    """Return the status and the sentence with which a request is refused, over the call its model is made for."""
    try:
        if request.model_name.endswith("_stream"):
            answers = list(triton.ModelStreamInfer(iter([request]), timeout=60))
            return ("", answers[0].error_message)
        triton.ModelInfer(request, timeout=60)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError(f"{request} was answered")


@pytest.mark.parametrize("model", ENTRIES)
def test_shapes_that_lie_are_refused_and_no_process_dies(
    service: Service, triton: rpc.GRPCInferenceServiceStub, model: str
) -> None:
    before, processes = Belongings.of(service), pids(service)
    for (name, datatype), shape, data in itertools.product(TENSORS, SHAPES, (b"", bytes(16))):
        request = pb.ModelInferRequest(model_name=model)
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(data)
        status, sentence = refusal(triton, request)
        assert status in ("INVALID_ARGUMENT", "") and sentence, (name, shape, sentence)
        request.ClearField("raw_input_contents")
        assert refusal(triton, request)[0] in ("INVALID_ARGUMENT", "")
    assert pids(service) == processes
    good_request(service)
    before.check(service)


def test_inner_models_and_closed_calls_are_out_of_reach(service: Service, triton: rpc.GRPCInferenceServiceStub) -> None:
    for model in INNER:
        assert refusal(triton, pb.ModelInferRequest(model_name=model))[0] == "NOT_FOUND"
    for name in CLOSED:
        with pytest.raises(grpc.RpcError) as error:
            getattr(triton, name)(getattr(pb, f"{name}Request")())
        assert error.value.code().name == "PERMISSION_DENIED", name


def test_too_large_requests_are_refused_before_they_are_copied(
    service: Service, triton: rpc.GRPCInferenceServiceStub
) -> None:
    before = Belongings.of(service)
    for megabytes in (17, 100, 17, 100):
        request = pb.ModelInferRequest(model_name="cosyvoice2")
        request.inputs.add(name="reference_wav", datatype="FP32", shape=[1, megabytes << 18])
        request.raw_input_contents.append(bytes(megabytes << 20))
        with pytest.raises(grpc.RpcError) as error:
            triton.ModelInfer(request, timeout=60)
        assert error.value.code().name == "RESOURCE_EXHAUSTED"
    good_request(service)
    before.check(service)


def test_idle_and_unfinished_connections_shut_nobody_out(service: Service) -> None:
    """More connections than the door keeps open, which send nothing or half a request."""
    sockets = []
    try:
        for number in range(300):
            for port in (service.ports.http, service.ports.grpc):
                connection = socket.create_connection(("127.0.0.1", port), timeout=10)
                if number % 2:
                    connection.sendall(b"POST /v2/models/cosyvoice2/infer HTTP/1.1\r\nHost: x\r\nContent-Le")
                sockets.append(connection)
        good_request(service)
    finally:
        for connection in sockets:
            connection.close()
    good_request(service)
