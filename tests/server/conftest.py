"""One real Triton server for all server tests, on free ports, and clients of it."""

from __future__ import annotations

import re
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
def checkpoint(complete: Callable[[int], Path]) -> Path:
    """The nano voice, or where it is not there yet the tiny checkpoint with a tokenizer for reference audio."""
    if (NANO / "cosyvoice2.yaml").is_file():
        return NANO
    return complete(2)


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
