"""One real Triton server for all server tests, on free ports, and clients of it."""

from __future__ import annotations

import re
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient import grpc

from tritone.client.speech_client import SpeechClient
from tritone.serve import parse, start
from tritone.supervisor.launch import ROOT
from tritone.supervisor.locate import free_ports
from tritone.supervisor.service import Service

NANO = ROOT / "checkpoints" / "nano"
SENTENCE = "The birch canoe slid."


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test in this folder needs the server."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.server)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The nano voice, or where it is not there yet the tiny checkpoint with a tokenizer for reference audio."""
    if (NANO / "cosyvoice2.yaml").is_file():
        return NANO
    folder = tmp_path_factory.mktemp("served") / "tiny"
    shutil.copytree(request.getfixturevalue("tiny_v2"), folder)
    write_speech_tokenizer(folder / "speech_tokenizer_v2.onnx")
    return folder


def write_speech_tokenizer(path: Path) -> None:
    """A tokenizer with the published inputs and outputs: every fourth frame's first feature, scaled to an id."""
    import onnx
    from onnx import TensorProto as T
    from onnx import helper as h

    nodes = [
        h.make_node("Slice", ["feats", "zeros", "ends", "axes", "steps"], ["picked"]),
        h.make_node("ReduceMean", ["picked", "channel"], ["mean"], keepdims=0),
        h.make_node("Sigmoid", ["mean"], ["unit"]),
        h.make_node("Mul", ["unit", "codes"], ["scaled"]),
        h.make_node("Cast", ["scaled"], ["indices"], to=T.INT32),
    ]
    constants = {"zeros": [0], "ends": [1 << 30], "axes": [2], "steps": [4], "channel": [1]}
    weights = [h.make_tensor(name, T.INT64, [1], value) for name, value in constants.items()]
    weights.append(h.make_tensor("codes", T.FLOAT, [], [60.0]))
    graph = h.make_graph(
        nodes,
        "tokenizer",
        [h.make_tensor_value_info("feats", T.FLOAT, [1, 128, "t"]), h.make_tensor_value_info("n", T.INT32, [1])],
        [h.make_tensor_value_info("indices", T.INT32, [1, "tokens"])],
        weights,
    )
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=10), path)


@pytest.fixture(scope="session")
def server(checkpoint: Path) -> Iterator[Service]:
    """The running server; its exports stay in build/ and are made again only when something behind them changed."""
    ports = free_ports()
    # As many streams as a test wants, whatever the machine's speed at this moment.
    arguments = [str(checkpoint), "--streams=32", *(f"--{name}-port={port}" for name, port in vars(ports).items())]
    if checkpoint != NANO:
        arguments.append(f"--build-dir={ROOT / 'build' / 'tests-tiny'}")
    _, running = start(parse(arguments))
    with running:
        yield running


@pytest.fixture
def speech(server: Service) -> Iterator[SpeechClient]:
    """Our client over gRPC."""
    with SpeechClient(f"127.0.0.1:{server.ports.grpc}", timeout=120) as client:
        yield client


@pytest.fixture
def speaker(speech: SpeechClient) -> str:
    """A registered speaker."""
    return speech.speakers()[0]


@pytest.fixture
def infer(server: Service) -> Iterator[Callable[..., Any]]:
    """`infer(name=(array, datatype), ...)`: a raw gRPC request to the ensemble, exactly as given."""
    yield from raw_requests(f"127.0.0.1:{server.ports.grpc}")


@pytest.fixture
def inside(server: Service) -> Iterator[Callable[..., Any]]:
    """Raw requests to any model of Triton itself, past the front door."""
    yield from raw_requests(server.triton.grpc)


def raw_requests(address: str) -> Iterator[Callable[..., Any]]:
    """Yield a function that sends a gRPC request to this address."""
    client = grpc.InferenceServerClient(address)

    def call(model: str = "cosyvoice2", **inputs: tuple[np.ndarray, str]) -> Any:
        tensors = []
        for name, (array, datatype) in inputs.items():
            tensor = grpc.InferInput(name, list(array.shape), datatype)
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        return client.infer(model, tensors, client_timeout=120)

    yield call
    client.close()


def text(value: str | bytes) -> tuple[np.ndarray, str]:
    """Return a BYTES input [1, 1]."""
    data = value if isinstance(value, bytes) else value.encode()
    return np.array([[data]], np.object_), "BYTES"


def lm_tokens(server: Service, model: str) -> int:
    """Tokens the model's language model has decoded since the server started, from the metrics page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports.metrics}/metrics", timeout=5) as page:
        found = re.findall(rf'tritone_lm_tokens_total{{model="{model}"}} (\S+)', page.read().decode())
    return int(sum(map(float, found)))
