"""The client without a server: request tensors, stream protocol, cancellation, errors in words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from tritone.client.errors import (
    InvalidArgument,
    ModelNotFound,
    ModelNotUsable,
    RequestFailed,
    ServerBusy,
    ServerNotReady,
    ServerUnreachable,
    SpeechError,
)
from tritone.client.speech_client import Speech, SpeechClient, request_arrays

INDEX = {"models": [{"name": "other", "state": "READY"}, {"name": "broken", "state": "UNAVAILABLE"}]}


class FakeConnection:
    """Stands in for tritonclient's gRPC connection: gives the scripted answers and records its use."""

    def __init__(self, answers: list[Any] | None = None, parameters: dict[str, str] | None = None) -> None:
        self.answers = answers or []
        values = {"sample_rate": "24000", "speakers": "rms, slt"} if parameters is None else parameters
        declared = {"language": "TYPE_STRING", "top_p": "TYPE_FP32", "steps": "TYPE_INT64"}
        inputs = [{"name": name, "data_type": kind} for name, kind in declared.items()]
        parameters = {key: {"string_value": value} for key, value in values.items()}
        self.config = {"config": {"parameters": parameters, "input": inputs}}
        self.ready = True
        self.log: list[str] = []
        self.sent: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.answer_at = 1

    def get_model_config(self, model: str, as_json: bool) -> dict[str, Any]:
        return self.config

    def get_model_repository_index(self, as_json: bool) -> dict[str, Any]:
        return INDEX

    def is_server_live(self) -> bool:
        return True

    def is_server_ready(self) -> bool:
        return self.ready

    def is_model_ready(self, model: str) -> bool:
        return False

    def infer(self, model: str, inputs: list[Any], client_timeout: float) -> Any:
        self.log.append(f"infer {model} {[tensor.name() for tensor in inputs]}")
        if isinstance(self.answers[0], Exception):
            raise self.answers[0]
        return self.answers[0]

    def start_stream(self, callback: Callable[..., None]) -> None:
        self.callback = callback

    def async_stream_infer(
        self, model: str, inputs: list[Any], enable_empty_final_response: bool, **options: Any
    ) -> None:
        assert enable_empty_final_response
        self.log.append(f"stream {model}")
        self.sent.append(({tensor.name(): tensor for tensor in inputs}, options))
        for answer in self.answers if self.answer_at == len(self.sent) else []:
            failed = isinstance(answer, Exception)
            self.callback(result=None if failed else answer, error=answer if failed else None)

    def stop_stream(self, cancel_requests: bool) -> None:
        self.log.append(f"stop cancel={cancel_requests}")

    def close(self) -> None:
        self.log.append("close")


def answer(samples: list[float] | None, final: bool = False, id: str = "") -> Any:
    waveform = None if samples is None else np.array([samples], np.float32)
    response = SimpleNamespace(id=id, parameters={"triton_final_response": SimpleNamespace(bool_param=final)})
    return SimpleNamespace(as_numpy=lambda name: waveform, get_response=lambda: response)


def client_of(connection: FakeConnection, timeout: float = 5.0) -> SpeechClient:
    client = SpeechClient("nowhere:1", timeout=timeout)
    client._connection.close()
    client._connection = connection
    client._connect = lambda: connection  # type: ignore[method-assign]
    return client


def test_request_tensors_follow_the_serving_contract() -> None:
    arrays = request_arrays(
        "Grüß Gott",
        speaker="rms",
        reference=np.zeros(8000),
        reference_text="yes",
        instruct_text="softly",
        source=np.zeros((1, 4000), np.float32),
        mode="vc",
        speed=1.5,
        seed=2**40,
        text_frontend=False,
    )
    kinds = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    assert kinds == {
        "target_text": ("object", (1, 1)),
        "speaker": ("object", (1, 1)),
        "reference_wav": ("float32", (1, 8000)),
        "reference_wav_len": ("int32", (1, 1)),
        "reference_text": ("object", (1, 1)),
        "instruct_text": ("object", (1, 1)),
        "source_wav": ("float32", (1, 4000)),
        "source_wav_len": ("int32", (1, 1)),
        "mode": ("object", (1, 1)),
        "speed": ("float32", (1, 1)),
        "seed": ("int64", (1, 1)),
        "text_frontend": ("bool", (1, 1)),
    }
    assert arrays["target_text"][0, 0] == "Grüß Gott".encode()
    assert arrays["reference_wav_len"][0, 0] == 8000 and arrays["seed"][0, 0] == 2**40
    for entry in ("cosyvoice2", "cosyvoice2_stream"):
        path = Path(__file__).parents[3] / "model_repository" / "cpu" / entry / "config.pbtxt"
        served = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig()).input
        assert {tensor.name for tensor in served} == set(arrays), "the client has to know every input of the server"


def test_what_is_not_given_is_not_sent() -> None:
    assert list(request_arrays("x")) == ["target_text"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"text": "\udcff"}, "target_text: the text cannot be sent as UTF-8"),
        ({"text": b"x"}, "target_text: is of type bytes, not a text"),
        ({"instruct_text": 3, "text": "x"}, "instruct_text: is of type int, not a text"),
        ({}, "text: is missing; only voice conversion, which has a source, goes without"),
        ({"text": "x", "seed": 1.5}, r"seed: is 1\.5; it is a whole number from 0 to 2\*\*63 - 1"),
        ({"text": "x", "seed": 2**63}, "seed: is 9223372036854775808; it is a whole number"),
        ({"text": "x", "seed": -1}, "seed: is -1; it is a whole number"),
        ({"text": "x", "text_frontend": 0}, "text_frontend: is 0; it is True or False"),
        ({"text": "x", "speed": float("nan")}, "speed: is nan, not a finite number"),
        ({"text": "x", "speed": "2"}, "speed: is '2', not a finite number"),
        ({"text": "x", "reference": np.zeros(9, np.int16)}, "reference: holds int16; send float samples"),
        ({"source": np.zeros((2, 9))}, r"source: has the shape \[2, 9\]; send the samples of one channel"),
    ],
)
def test_what_no_tensor_can_hold_is_refused_in_a_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{message}"):
        request_arrays(**arguments)


def test_voice_conversion_goes_without_text() -> None:
    assert list(request_arrays(source=np.zeros(9))) == ["source_wav", "source_wav_len"]


def test_synthesize_reads_the_rate_from_the_model() -> None:
    connection = FakeConnection([answer([0.0] * 22050)], {"sample_rate": "22050"})
    speech = client_of(connection).synthesize("x", speaker="rms")
    assert (speech.sample_rate, speech.seconds) == (22050, 1.0)
    assert connection.log == ["infer cosyvoice2 ['target_text', 'speaker']"]


def test_real_time_factor() -> None:
    assert Speech(np.zeros(48000, np.float32), 24000, elapsed=0.5).real_time_factor == 0.25
    assert Speech(np.zeros(0, np.float32), 24000, elapsed=0.5).real_time_factor == float("inf")


@pytest.mark.parametrize("value, expected", [("rms, slt", ["rms", "slt"]), ('["a,b", "c"]', ["a,b", "c"]), ("", [])])
def test_speakers_are_those_of_the_config(value: str, expected: list[str]) -> None:
    assert client_of(FakeConnection(parameters={"speakers": value})).speakers() == expected


def test_missing_sample_rate_is_an_error_not_a_guess() -> None:
    with pytest.raises(ModelNotUsable, match="config of model 'cosyvoice2' has no parameter sample_rate"):
        client_of(FakeConnection(parameters={})).synthesize("x")


def test_stream_ends_with_the_final_response() -> None:
    connection = FakeConnection([answer([1.0]), answer([2.0, 3.0]), answer(None, final=True), answer([4.0])])
    chunks = list(client_of(connection).stream("x"))
    assert [chunk.tolist() for chunk in chunks] == [[1.0], [2.0, 3.0]]
    assert connection.log == ["stream cosyvoice2_stream", "stop cancel=False", "close"], (
        "a finished call is not cancelled"
    )


def test_a_stream_closed_at_its_last_chunk_is_finished_and_not_cancelled() -> None:
    connection = FakeConnection([answer([1.0]), answer([2.0], final=True)])
    chunks = client_of(connection).stream("x")
    assert [next(chunks).tolist(), next(chunks).tolist()] == [[1.0], [2.0]]
    chunks.close()  # type: ignore[attr-defined]
    assert connection.log[1:] == ["stop cancel=False", "close"]


def test_a_server_that_never_closes_a_finished_stream_is_left() -> None:
    connection = FakeConnection([answer([1.0], final=True)])
    cancelled, record = threading.Event(), connection.stop_stream

    def stop_stream(cancel_requests: bool) -> None:
        record(cancel_requests)
        if cancel_requests:
            cancelled.set()
        assert cancelled.wait(30), "a stream that the server does not close is never cancelled"

    connection.stop_stream = stop_stream  # type: ignore[method-assign]
    assert len(list(client_of(connection, timeout=0.05).stream("x"))) == 1
    assert connection.log[1:] == ["stop cancel=False", "stop cancel=True", "close"]


def test_stream_keeps_audio_that_comes_with_the_final_response() -> None:
    assert [c.tolist() for c in client_of(FakeConnection([answer([1.0], final=True)])).stream("x")] == [[1.0]]


def test_closing_the_generator_cancels() -> None:
    connection = FakeConnection([answer([1.0]), answer([2.0])])
    chunks = client_of(connection).stream("x")
    next(chunks)
    assert connection.log == ["stream cosyvoice2_stream"]
    chunks.close()  # type: ignore[attr-defined]
    assert connection.log[1:] == ["stop cancel=True", "close"]


def test_a_silent_stream_is_given_up_and_cancelled() -> None:
    connection = FakeConnection([answer([1.0])])
    with pytest.raises(RequestFailed, match=r"no audio from cosyvoice2_stream for 0\.05 s; cancelled"):
        list(client_of(connection, timeout=0.05).stream("x"))
    assert "stop cancel=True" in connection.log


def piece(tensors: dict[str, Any]) -> str:
    """Return the text of a request that was sent."""
    data: bytes = tensors["target_text"]._get_content()
    return data[4:].decode()  # after its length


def test_pieces_are_a_sequence_whose_first_request_has_the_controls() -> None:
    connection = FakeConnection([answer(None, True, "later"), answer([1.0]), answer(None, final=True)])
    connection.answer_at = 3
    assert [c.tolist() for c in client_of(connection).speak_pieces(["Hello ", "you."], speaker="rms")] == [[1.0]]
    assert [(sorted(tensors), piece(tensors)) for tensors, _ in connection.sent] == [
        (["speaker", "target_text"], "Hello "),
        (["target_text"], "you."),
        (["target_text"], ""),
    ]
    options = [options for _, options in connection.sent]
    assert len({option.pop("sequence_id") for option in options}) == 1
    assert options == [
        {"request_id": "", "sequence_start": True, "sequence_end": False},
        {"request_id": "later", "sequence_start": False, "sequence_end": False},
        {"request_id": "later", "sequence_start": False, "sequence_end": True},
    ]


def test_no_piece_at_all_is_asked_for_like_any_text() -> None:
    connection = FakeConnection([InferenceServerException("INVALID_ARGUMENT: target_text: the text is empty")])
    with pytest.raises(InvalidArgument, match="the text is empty"):
        list(client_of(connection).speak_pieces([]))
    ((tensors, options),) = connection.sent
    assert piece(tensors) == "" and options["sequence_start"] and options["sequence_end"]


def test_no_further_piece_is_asked_for_once_the_listener_has_gone() -> None:
    asked, go_on = threading.Event(), threading.Event()
    connection = FakeConnection([answer([1.0])])

    def pieces() -> Iterator[str]:
        yield "one"
        asked.set()
        go_on.wait(5)
        yield "two"
        pytest.fail("was asked for a third piece")

    chunks = client_of(connection).speak_pieces(pieces())
    next(chunks)
    assert asked.wait(5)
    chunks.close()  # type: ignore[attr-defined]
    go_on.set()
    assert connection.log == ["stream cosyvoice2_stream", "stop cancel=True", "close"]


def test_error_in_the_pieces_is_the_listeners() -> None:
    def pieces() -> Iterator[str]:
        yield "one"
        raise RuntimeError("no more")

    connection = FakeConnection()
    with pytest.raises(RuntimeError, match="no more"):
        list(client_of(connection).speak_pieces(pieces()))
    assert connection.log[-2:] == ["stop cancel=True", "close"]
    with pytest.raises(InvalidArgument, match="target_text: is of type int"):
        list(client_of(FakeConnection()).speak_pieces([1]))  # type: ignore[list-item]


def test_stream_over_http_is_refused() -> None:
    with pytest.raises(ValueError, match="streaming needs gRPC"):
        SpeechClient("nowhere:1", "http").stream("x")
    with pytest.raises(ValueError, match="protocol must be 'grpc' or 'http', got 'ftp'"):
        SpeechClient("nowhere:1", "ftp")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error, kind, message",
    [
        (
            InferenceServerException("in ensemble 'cosyvoice2', INVALID_ARGUMENT: speed: asked for 100"),
            InvalidArgument,
            "^INVALID_ARGUMENT: speed: asked for 100$",
        ),
        (
            InferenceServerException("inference input data-type for 'speed' is 'INT64'", "StatusCode.INVALID_ARGUMENT"),
            InvalidArgument,
            "data-type for 'speed'",
        ),
        (
            InferenceServerException("Request for unknown model: 'm' is not found", "StatusCode.UNAVAILABLE"),
            ModelNotFound,
            "no model 'cosyvoice2' ready; loaded are: other$",
        ),
        (
            InferenceServerException("failed to connect to all addresses", "StatusCode.UNAVAILABLE"),
            ServerUnreachable,
            "no Triton server answers grpc at nowhere:1 .*python -m tritone.serve",
        ),
        (InferenceServerException("Deadline Exceeded"), RequestFailed, r"cosyvoice2 gave no answer within 5 s"),
        (InferenceServerException("out of memory"), RequestFailed, "cosyvoice2 failed: out of memory"),
        (
            InferenceServerException("BUSY: 8 texts are arriving already", "StatusCode.UNAVAILABLE"),
            ServerBusy,
            "cosyvoice2 is busy: 8 texts are arriving already",
        ),
    ],
)
def test_server_errors_in_words(error: Exception, kind: type[SpeechError], message: str) -> None:
    with pytest.raises(kind, match=message):
        client_of(FakeConnection([error])).synthesize("x")
    if "unknown model" not in str(error):
        with pytest.raises(kind, match=message.replace("cosyvoice2 ", "cosyvoice2_stream ")):
            list(client_of(FakeConnection([error])).stream("x"))


def test_waiting_ends_with_what_is_missing() -> None:
    connection = FakeConnection()
    with pytest.raises(ModelNotFound, match="no model 'cosyvoice2' ready; loaded are: other"):
        client_of(connection).wait_until_ready(60.0)
    connection.ready = False
    connection.get_model_repository_index = lambda as_json: {}  # type: ignore[method-assign]
    with pytest.raises(ServerNotReady, match=r"nowhere:1 was not ready after 0\.1 s"):
        client_of(connection).wait_until_ready(0.1)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_nobody_listens(protocol: Any) -> None:
    with pytest.raises(ServerUnreachable, match=f"no Triton server answers {protocol} at localhost:1 "):
        SpeechClient("localhost:1", protocol).wait_until_ready(0.1)
