"""A Bert-VITS2 checkpoint with random weights on a real server: both entries, controls, bad input, cancellation."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server.conftest import text
from support.bert_vits2.folder import SPEAKERS, write_tiny
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from tritone.client.speech_client import SpeechClient
from tritone.serve import check, parse, start
from tritone.supervisor.launch import ROOT
from tritone.supervisor.locate import free_ports
from tritone.supervisor.service import Service

MODEL = "bert_vits2"
MIXED = "今天天气很好 and the sky is blue。こんにちは、元気ですか。It is late."
LONG = " ".join(f"This is sentence number {word}." for word in ("one", "two", "three", "four", "five") * 12)
Inputs = dict[str, tuple[np.ndarray, str]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = write_tiny(tmp_path_factory.mktemp("served") / "tiny-bert-vits2")
    ports = free_ports()
    options = [f"--{name}-port={port}" for name, port in vars(ports).items()]
    build = ROOT / "build" / "tests-tiny-bert-vits2"
    family, server = start(parse([str(folder), "--streams=16", f"--build-dir={build}", "--threads=1", *options]))
    with server:
        check(family, ports.http)
        yield server


@pytest.fixture
def client(served: Service) -> Iterator[grpc.InferenceServerClient]:
    connection = grpc.InferenceServerClient(f"127.0.0.1:{served.ports.grpc}")
    yield connection
    connection.close()


def say(what: str, **others: Any) -> Inputs:
    """Return a request: texts are BYTES, numbers FP32, a seed INT64."""
    found = {"target_text": text(what)} if what else {}
    for name, value in others.items():
        if isinstance(value, str):
            found[name] = text(value)
        elif name == "seed":
            found[name] = np.array([[value]], np.int64), "INT64"
        else:
            found[name] = np.array([[value]], np.float32), "FP32"
    return found


def tensors(inputs: Inputs) -> list[Any]:
    found = []
    for name, (array, datatype) in inputs.items():
        tensor = grpc.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        found.append(tensor)
    return found


def whole(client: grpc.InferenceServerClient, inputs: Inputs) -> np.ndarray:
    wave: np.ndarray = client.infer(MODEL, tensors(inputs), client_timeout=120).as_numpy("waveform")
    assert wave.dtype == np.float32 and wave.shape[0] == 1 and np.isfinite(wave).all()
    return wave[0]


def stream(client: grpc.InferenceServerClient, inputs: Inputs, most: int = 1 << 30) -> list[np.ndarray]:
    """Return the chunks of the decoupled entry; after `most` of them the client disconnects."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put(error or result))
    chunks: list[np.ndarray] = []
    try:
        client.async_stream_infer(f"{MODEL}_stream", tensors(inputs), enable_empty_final_response=True)
        while len(chunks) < most:
            answer = answers.get(timeout=120)
            if isinstance(answer, InferenceServerException):
                raise answer
            if answer.get_response().parameters["triton_final_response"].bool_param:
                return chunks
            chunks.append(answer.as_numpy("waveform").reshape(-1))
        return chunks
    finally:
        client.stop_stream(cancel_requests=True)


def test_three_languages_in_one_text_streamed_as_whole(client: grpc.InferenceServerClient) -> None:
    inputs = say(MIXED, speaker="chen", seed=7)
    wave, chunks = whole(client, inputs), stream(client, inputs)
    assert wave.size > 3000 and np.abs(wave).max() > 1e-2
    assert len(chunks) > 3 and chunks[0].size < wave.size / 4
    np.testing.assert_allclose(np.concatenate(chunks), wave, atol=1e-4 * np.abs(wave).max())
    parts = [whole(client, say("今天天气很好。", language="ZH")), whole(client, say("こんにちは。", language="JP"))]
    assert all(part.size > 500 for part in parts)


def test_requests_that_arrive_together_get_what_they_get_alone(client: grpc.InferenceServerClient) -> None:
    requests = [say("Yes.", seed=1), say(MIXED, seed=2, speaker="dai"), say("A longer sentence, all in English.")]
    alone = [whole(client, request) for request in requests]
    answers: queue.Queue[Any] = queue.Queue()
    for index in range(12):
        inputs = tensors(requests[index % 3])
        client.async_infer(MODEL, inputs, lambda result, error, i=index: answers.put((i, error or result)))
    for _ in range(12):
        index, answer = answers.get(timeout=120)
        assert not isinstance(answer, Exception), answer
        expected = alone[index % 3]
        np.testing.assert_allclose(answer.as_numpy("waveform")[0], expected, atol=1e-4 * np.abs(expected).max())


def test_every_control_changes_the_audio(client: grpc.InferenceServerClient) -> None:
    sentence = "The birch canoe slid on the smooth planks."
    plain = whole(client, say(sentence, seed=1))
    np.testing.assert_array_equal(whole(client, say(sentence, seed=1)), plain)
    slow = whole(client, say(sentence, seed=1, length_scale=2.0))
    assert slow.size > 1.3 * plain.size
    np.testing.assert_array_equal(whole(client, say(sentence, seed=1, speed=0.5)), slow)
    changes: list[dict[str, Any]] = [
        {"seed": 2},
        {"speaker": "eri"},
        {"noise_scale": 1.0},
        {"sdp_ratio": 1.0, "noise_scale_w": 2.0},
    ]
    for change in changes:
        other = whole(client, say(sentence, **({"seed": 1} | change)))
        assert other.shape != plain.shape or np.abs(other - plain).max() > 1e-4, change


def test_phones_are_spoken_as_they_are_sent(client: grpc.InferenceServerClient) -> None:
    spoken = {"language": "EN", "phones": "_ hh ah l ow . _", "tones": "0 3 1 3 2 0 0", "word2ph": "1 4 1 1"}
    wave = whole(client, say("hello .", **spoken))
    assert wave.size > 100
    other = whole(client, say("hello .", **(spoken | {"tones": "0 3 1 3 1 0 0"})))
    assert other.shape != wave.shape or np.abs(other - wave).max() > 1e-4


PHONES = {"language": "EN", "phones": "_ hh ay _", "tones": "0 3 2 0", "word2ph": "1 2 1"}
BAD: list[tuple[str, str, Inputs]] = [
    ("target_text", "empty", say("")),
    ("target_text", "no letter or digit", say("?!")),
    ("target_text", "letters that no language here can say: 'שלום'; the languages are ZH, JP, EN", say("שלום")),
    ("target_text", "letters that no language here can say: 'Привет'", say("Привет", language="ZH")),
    ("target_text", "the limit is 5000", say("word " * 1500)),
    ("language", "unknown language 'FR'; the languages are ZH, JP, EN", say("Bonjour.", language="FR")),
    ("speaker", f"unknown speaker 'zoe'; the speakers are {', '.join(SPEAKERS)}", say("Hi.", speaker="zoe")),
    ("word2ph", "a word2ph that sums to 5", say("", **(PHONES | {"word2ph": "1 3 1"}))),
    ("word2ph", "a word2ph that sums to 4", say("", **(PHONES | {"tones": "0 3 2"}))),
    ("word2ph", "has a value that is not a whole number", say("", **(PHONES | {"word2ph": "1 two 1"}))),
    ("phones", "unknown phone 'zz' in '.*'; the 112 known phones", say("", **(PHONES | {"phones": "_ zz ay _"}))),
    ("tones", "unknown tone 9 in '.*'; the tones of EN are 0 to 3", say("", **(PHONES | {"tones": "0 3 9 0"}))),
    (
        "language",
        "is missing; phones need one of ZH, JP, EN",
        say("", **{k: v for k, v in PHONES.items() if k != "language"}),
    ),
    ("tones", "came without phones", say("Hi.", tones="0 0")),
    ("sdp_ratio", "the range is 0 to 1", say("Hi.", sdp_ratio=1.5)),
    ("noise_scale", "not a finite number", say("Hi.", noise_scale=float("nan"))),
    ("length_scale", "the range is 0.2 to 5", say("Hi.", length_scale=0.0)),
    ("speed", "together with length_scale", say("Hi.", speed=1.0, length_scale=1.0)),
    ("seed", "a seed is 0 or more", say("Hi.", seed=-1)),
]


@pytest.mark.parametrize(
    ("field", "problem", "inputs"), BAD, ids=[f"{field}-{n}" for n, (field, _, _) in enumerate(BAD)]
)
def test_bad_input_is_answered_by_both_entries_and_the_next_request_is_served(
    client: grpc.InferenceServerClient, field: str, problem: str, inputs: Inputs
) -> None:
    inputs = inputs or say(" ")
    message = f"INVALID_ARGUMENT: {field}: .*({problem})"
    with pytest.raises(InferenceServerException, match=message) as error:
        whole(client, inputs)
    assert str(error.value.status()) == "StatusCode.INVALID_ARGUMENT"
    with pytest.raises(InferenceServerException, match=message):
        stream(client, inputs)
    assert whole(client, say("Hi.")).size > 100


def test_a_disconnected_client_ends_the_work(client: grpc.InferenceServerClient) -> None:
    stream(client, say("Hi."))
    before = seconds_spent()
    samples = sum(chunk.size for chunk in stream(client, say(LONG)))
    full = seconds_spent() - before
    assert samples > 20000

    before = seconds_spent()
    assert len(stream(client, say(LONG), most=1)) == 1
    settled = -1.0
    while settled != (now := seconds_spent()):
        settled = now
        time.sleep(1.0)
    assert settled - before < full / 2, f"{settled - before:.2f} of {full:.2f} s"
    assert sum(chunk.size for chunk in stream(client, say("Hi."))) > 100


def seconds_spent() -> float:
    """CPU seconds of the process that runs the streaming entry."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
            if "triton_python_backend_stub" in command.split("\0")[0] and f"{MODEL}_stream" in command:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            continue
    raise AssertionError("no process runs the streaming entry")


def test_our_client_finds_speakers_and_rate(served: Service) -> None:
    with SpeechClient(f"127.0.0.1:{served.ports.grpc}", model=MODEL, timeout=120) as speech:
        assert speech.speakers() == list(SPEAKERS) and speech.sample_rate == 44100
        spoken = speech.synthesize("Hello.", speaker="ben", speed=1.2, seed=3)
        assert spoken.waveform.size > 100
