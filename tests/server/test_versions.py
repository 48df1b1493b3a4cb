"""A server of each version with random weights: published clients, every mode, both entries."""

from __future__ import annotations

import json
import queue
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server.conftest import text
from support.exports import exported
from support.published_client import speak
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from tritone.serve import check, parse, start
from tritone.supervisor.locate import free_ports
from tritone.supervisor.service import Service

RATES = {1: 22050, 2: 24000, 3: 24000}
CODES = {1: 4096, 2: 6561, 3: 6561}
Inputs = dict[str, tuple[np.ndarray, str]]


@pytest.fixture(scope="module", params=[1, 2, 3], ids=lambda version: f"cosyvoice{version}")
def served(request: pytest.FixtureRequest, complete: Callable[[int], Path]) -> Iterator[tuple[int, Service]]:
    """The version and its running server, which has spoken once through each entry."""
    version = request.param
    folder = complete(version)
    ports = free_ports()
    options = [f"--{name}-port={port}" for name, port in vars(ports).items()]
    build = exported(folder, f"tests-tiny-v{version}")
    family, server = start(parse([str(folder), "--streams=16", f"--build-dir={build}", "--threads=1", *options]))
    with server:
        check(family, ports.http)
        yield version, server


@pytest.fixture
def client(served: tuple[int, Service]) -> Iterator[grpc.InferenceServerClient]:
    connection = grpc.InferenceServerClient(f"127.0.0.1:{served[1].ports.grpc}")
    yield connection
    connection.close()


def recording(seconds: float, field: str = "reference_wav") -> Inputs:
    """Return a recording as the published client sends it."""
    time = np.arange(int(16000 * seconds), dtype=np.float32) / 16000
    wav = (0.3 * np.sin(2 * np.pi * 150 * time) * (1 + np.sin(2 * np.pi * 3 * time)))[None].astype(np.float32)
    return {field: (wav, "FP32"), f"{field}_len": (np.array([[wav.shape[1]]], np.int32), "INT32")}


def tensors(inputs: Inputs) -> list[Any]:
    found = []
    for name, (array, datatype) in inputs.items():
        tensor = grpc.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        found.append(tensor)
    return found


def whole(client: grpc.InferenceServerClient, model: str, inputs: Inputs) -> np.ndarray:
    answer = client.infer(model, tensors(inputs), client_timeout=120)
    wave: np.ndarray = answer.as_numpy("waveform")
    assert wave.dtype == np.float32 and wave.shape[0] == 1 and np.isfinite(wave).all()
    return wave[0]


def stream(client: grpc.InferenceServerClient, model: str, inputs: Inputs) -> list[np.ndarray]:
    """Chunks of the decoupled entry, read as the published client reads them."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put(error or result))
    chunks = []
    try:
        client.async_stream_infer(f"{model}_stream", tensors(inputs), enable_empty_final_response=True)
        while True:
            answer = answers.get(timeout=120)
            if isinstance(answer, InferenceServerException):
                raise answer
            if answer.get_response().parameters["triton_final_response"].bool_param:
                return chunks
            chunks.append(answer.as_numpy("waveform").reshape(-1))
    finally:
        client.stop_stream()


def test_published_client_speaks_in_both_modes_under_one_name(
    served: tuple[int, Service], client: grpc.InferenceServerClient
) -> None:
    model, wav = f"cosyvoice{served[0]}", recording(2.0)["reference_wav"][0][0]
    arguments = ["--server-addr=127.0.0.1", f"--server-port={served[1].ports.grpc}", "--reference-text=A word."]
    arguments += ["--target-text=Hi you.", f"--model-name={model if served[0] > 1 else 'cosyvoice2'}"]
    (spoken,), chunks = (speak([*arguments, f"--mode={mode}"], wav, model=model) for mode in ("offline", "streaming"))
    assert spoken.size > 10000 and np.abs(spoken).max() > 1e-3
    assert len(chunks) > 1 and sum(chunk.size for chunk in chunks) == pytest.approx(spoken.size, rel=0.01)
    config = client.get_model_config(model, as_json=True)["config"]
    assert config["parameters"]["sample_rate"]["string_value"] == str(RATES[served[0]])


def test_published_client_speaks_over_plain_http(
    served: tuple[int, Service], client: grpc.InferenceServerClient
) -> None:
    """JSON as that client posts it, and its recording padded to ten seconds as the other one pads it."""
    version, server = served
    model, inputs = f"cosyvoice{version}", recording(2.0)
    samples = np.zeros((1, 160000), np.float32)
    samples[:, : inputs["reference_wav"][0].shape[1]] = inputs["reference_wav"][0]
    fields = {
        "reference_wav": (samples.shape, "FP32", samples.tolist()),
        "reference_wav_len": ((1, 1), "INT32", inputs["reference_wav_len"][0].tolist()),
        "reference_text": ((1, 1), "BYTES", ["A word."]),
        "target_text": ((1, 1), "BYTES", ["Hi you."]),
    }
    keys = ("name", "shape", "datatype", "data")
    body = {"inputs": [dict(zip(keys, (name, *field), strict=True)) for name, field in fields.items()]}
    post = urllib.request.Request(
        f"http://127.0.0.1:{server.ports.http}/v2/models/{model}/infer?request_id=0",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(post, timeout=120) as answer:
        spoken = np.array(json.load(answer)["outputs"][0]["data"], dtype=np.float32)
    wanted = whole(client, model, inputs | {"reference_text": text("A word."), "target_text": text("Hi you.")})
    np.testing.assert_allclose(spoken, wanted, atol=1e-5)


def test_every_mode_speaks_and_each_says_something_else(
    served: tuple[int, Service], client: grpc.InferenceServerClient
) -> None:
    version, model = served[0], f"cosyvoice{served[0]}"
    say, told = {"target_text": text("Hi you.")}, {"instruct_text": text("Calm.")}
    instruct = say | told | (recording(2.0) if version > 1 else {"speaker": text("a")})
    requests = [
        say | {"speaker": text("a")},
        say | recording(2.0),
        say | recording(2.0) | {"reference_text": text("A word.")},
        instruct,
        recording(2.0) | recording(1.0, "source_wav") | {"mode": text("vc")},
    ]
    waves = [whole(client, model, request) for request in requests]
    for index, wave in enumerate(waves):
        assert wave.size > 5000
        for other in waves[:index]:
            assert wave.shape != other.shape or np.abs(wave - other).max() > 1e-3
    # A second of speech becomes as much, whatever the rate of tokens and frames.
    assert waves[-1].size == pytest.approx(RATES[version] * (0.5 if version == 1 else 1.0), rel=0.03)


def test_a_mode_of_another_version_is_refused_by_name(
    served: tuple[int, Service], client: grpc.InferenceServerClient
) -> None:
    version, model = served[0], f"cosyvoice{served[0]}"
    wrong = "instruct2" if version == 1 else "instruct"
    inputs = {"target_text": text("Hi."), "mode": text(wrong), "instruct_text": text("Calm."), "speaker": text("a")}
    message = f"INVALID_ARGUMENT: mode: CosyVoice {version} has no mode '{wrong}'"
    with pytest.raises(InferenceServerException, match=message) as error:
        whole(client, model, inputs)
    assert str(error.value.status()) == "StatusCode.INVALID_ARGUMENT"
    with pytest.raises(InferenceServerException, match=message):
        stream(client, model, inputs)


def test_what_hears_answers_under_the_published_names(
    served: tuple[int, Service], client: grpc.InferenceServerClient
) -> None:
    inputs = recording(2.0)
    tokens = client.infer("speech_tokenizer", tensors(inputs)).as_numpy("prompt_speech_tokens")
    assert tokens.dtype == np.int32 and tokens.shape[0] == 1 and 0 <= tokens.min() <= tokens.max() < CODES[served[0]]
    embedding = client.infer("speaker_embedding", tensors(inputs)).as_numpy("prompt_spk_embedding")
    assert embedding.dtype == np.float16 and embedding.shape == (1, 192)
