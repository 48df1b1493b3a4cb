"""A MOSS-TTSD checkpoint with random weights on a real server: both entries, voices, batches, bad input."""

from __future__ import annotations

import queue
import re
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server.conftest import lm_tokens, text
from support.export_helpers import weights_apart
from support.held_loop import HeldLoop
from support.moss_helpers import write_checkpoint
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from tritone.build.layout import data_file, stage_key
from tritone.catalog import open_family
from tritone.families.moss_ttsd.dialogue import prompt_text
from tritone.families.moss_ttsd.lm.stages import PART
from tritone.families.moss_ttsd.text_tokenizer import DialogueTokenizer
from tritone.load import load_model
from tritone.serve import check, export_if_needed, parse, start
from tritone.supervisor.launch import ROOT
from tritone.supervisor.locate import free_ports
from tritone.supervisor.service import Service

MODEL = "moss_ttsd"
LLM, STREAM = f"{MODEL}_llm", f"{MODEL}_stream"
DIALOGUE = "[S1]Hello. [S2]Hi."
BUILD = ROOT / "build" / "tests-tiny-moss-ttsd"
Inputs = dict[str, tuple[np.ndarray, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeldLoop]:
    with pytest.MonkeyPatch.context() as patch:
        yield HeldLoop(tmp_path_factory.mktemp("loop"), patch)


@pytest.fixture(scope="module")
def served(folder: Path, loop: HeldLoop) -> Iterator[Service]:
    ports = free_ports()
    options = [f"--{name}-port={port}" for name, port in vars(ports).items()]
    export_if_needed(open_family(folder), folder, BUILD)
    # As at the released size, where it does not fit into one file.
    weights_apart(BUILD, stage_key("lm_step"))
    family, server = start(parse([str(folder), "--streams=16", f"--build-dir={BUILD}", "--threads=1", *options]))
    with server:
        check(family, ports.http)
        yield server


@pytest.fixture
def client(served: Service) -> Iterator[grpc.InferenceServerClient]:
    connection = grpc.InferenceServerClient(f"127.0.0.1:{served.ports.grpc}")
    yield connection
    connection.close()


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(round(16000 * seconds))
    return (0.1 * noise).astype(np.float32)


def say(what: str = DIALOGUE, **others: Any) -> Inputs:
    """Return a request: texts are BYTES, a seed INT64, sound and other numbers FP32.

    Four seconds unless it says otherwise.
    """
    found = {"target_text": text(what)}
    for name, value in {"max_seconds": 4.0, "seed": 3, **others}.items():
        if isinstance(value, str):
            found[name] = text(value)
        elif name == "seed":
            found[name] = np.array([[value]], np.int64), "INT64"
        else:
            found[name] = np.atleast_2d(np.asarray(value, np.float32)), "FP32"
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


def stream(server: Service, inputs: Inputs, most: int = 1 << 30) -> list[tuple[float, np.ndarray]]:
    """(seconds since the request, chunk) of each answer, on a connection of its own; leaves after `most` of them."""
    answers: queue.Queue[Any] = queue.Queue()
    client = grpc.InferenceServerClient(f"127.0.0.1:{server.ports.grpc}")
    client.start_stream(lambda result, error: answers.put(error or result))
    chunks: list[tuple[float, np.ndarray]] = []
    began = time.monotonic()
    try:
        client.async_stream_infer(STREAM, tensors(inputs), enable_empty_final_response=True)
        while len(chunks) < most:
            answer = answers.get(timeout=120)
            if isinstance(answer, InferenceServerException):
                raise answer
            if answer.get_response().parameters["triton_final_response"].bool_param:
                break
            chunks.append((time.monotonic() - began, answer.as_numpy("waveform").reshape(-1)))
        return chunks
    finally:
        client.stop_stream(cancel_requests=len(chunks) >= most)
        client.close()


def burst(server: Service, requests: list[Inputs]) -> list[list[tuple[int, np.ndarray]]]:
    """Return (place among all answers, chunk) of each request, all sent at once on one connection.

    They reach the server together however slowly this process runs.
    """
    answers: queue.Queue[Any] = queue.Queue()
    client = grpc.InferenceServerClient(f"127.0.0.1:{server.ports.grpc}")
    client.start_stream(lambda result, error: answers.put(error or result))
    chunks: list[list[tuple[int, np.ndarray]]] = [[] for _ in requests]
    try:
        for number, inputs in enumerate(requests):
            options = {"request_id": str(number), "enable_empty_final_response": True}
            client.async_stream_infer(STREAM, tensors(inputs), **options)
        over = place = 0
        while over < len(requests):
            answer = answers.get(timeout=120)
            if isinstance(answer, InferenceServerException):
                raise answer
            response, place = answer.get_response(), place + 1
            if response.parameters["triton_final_response"].bool_param:
                over += 1
            else:
                chunks[int(response.id)].append((place, answer.as_numpy("waveform").reshape(-1)))
        return chunks
    finally:
        client.stop_stream()
        client.close()


def pending(server: Service, model: str) -> int:
    """Return how many requests wait in the model's queue."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports.metrics}/metrics", timeout=5) as page:
        counts = re.findall(rf'nv_inference_pending_request_count{{model="{model}".*}} (\S+)', page.read().decode())
    return int(sum(map(float, counts)))


def joined(chunks: Sequence[tuple[float, np.ndarray]]) -> np.ndarray:
    return np.concatenate([chunk for _, chunk in chunks])


def assert_same(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("voice", [{}, {"reference_wav": sound(2.1), "reference_text": "[S1]Yes. [S2]No."}])
def test_ensemble_stream_and_offline_speak_alike(
    served: Service, client: grpc.InferenceServerClient, folder: Path, voice: dict[str, Any]
) -> None:
    spoken, chunks = whole(client, say(**voice)), stream(served, say(**voice))
    assert spoken.shape == (50 * 2560,) and np.abs(spoken).max() > 1e-3
    assert data_file(BUILD / stage_key("lm_step")).is_file()
    assert_same(joined(chunks), spoken)
    offline = load_model(folder, engine="onnx", build_dir=BUILD)
    assert_same(offline.synthesize(DIALOGUE, max_seconds=4.0, seed=3, **voice), spoken)
    config = client.get_model_config(MODEL, as_json=True)["config"]
    assert config["parameters"]["sample_rate"]["string_value"] == str(offline.sample_rate) == "32000"


def test_the_first_chunk_needs_25_rows(served: Service, loop: HeldLoop) -> None:
    long = say(max_seconds=20.0)
    with loop.closed(rows=25):
        assert len(stream(served, long, most=1)) == 1, "of 257 rows"
    chunks = stream(served, long)
    assert len(chunks) > 8 and len(chunks[0][1]) == 11 * 2560


def test_voices_and_settings_are_heard(client: grpc.InferenceServerClient) -> None:
    short: dict[str, Any] = {"max_seconds": 1.0}
    requests = [
        say(**short),
        say(**short, seed=4),
        say(**short, reference_wav=sound(1.0), reference_text="One."),
        say(**short, reference_wav=sound(1.0, 1), reference_text="One."),
        say(
            **short,
            reference_wav=sound(1.0),
            reference_text="One.",
            reference_wav_2=sound(1.5),
            reference_text_2="Two.",
        ),
        say(**short, temperature=[3.0, *[1.0] * 7]),
    ]
    waves = [whole(client, request) for request in requests]
    assert len({wave.tobytes() for wave in waves}) == len(waves)
    assert_same(whole(client, requests[0]), waves[0])


def test_requests_that_arrive_together_share_steps(
    served: Service, client: grpc.InferenceServerClient, loop: HeldLoop
) -> None:
    """A step of the language model decodes a row of every sequence, so four cost the steps of the longest."""
    requests = [say("[S1]" + "Word. " * n, seed=n, max_seconds=s) for n, s in enumerate((1.0, 4.0, 2.0, 3.0), 1)]
    before = lm_tokens(served, LLM)
    alone = [whole(client, request) for request in requests]
    one_by_one = lm_tokens(served, LLM) - before
    before = lm_tokens(served, LLM)
    answers: queue.Queue[Any] = queue.Queue()
    with loop.closed():  # until each is in the loop or in the queue before it, from which those that wait go together
        for number, request in enumerate(requests):
            client.async_infer(
                MODEL, tensors(request), lambda result, error: answers.put(error or result), request_id=str(number)
            )
        loop.wait_for(lambda: loop.open() + pending(served, LLM) == len(requests))
    results = {int((answer := answers.get(timeout=120)).get_response().id): answer for _ in requests}
    together = [results[number].as_numpy("waveform")[0] for number in range(len(requests))]
    for found, wanted in zip(together, alone, strict=True):
        assert_same(found, wanted)
    assert [len(wave) for wave in alone] == [2560 * codes for codes in (12, 50, 25, 38)]
    assert lm_tokens(served, LLM) - before < 0.75 * one_by_one


@pytest.mark.parametrize("count", [2, 4])
def test_streams_share_steps(served: Service, loop: HeldLoop, folder: Path, count: int) -> None:
    """Each is what it is alone, and the steps are those of the longest and those during the prompts of the others.

    None is long enough to pause because it is ahead of its reader.
    """
    prompt = len(DialogueTokenizer(folder).encode(prompt_text(DIALOGUE)))
    parts = -(-prompt // PART)
    requests = [say(seed=seed, max_seconds=2.0 + 0.5 * seed) for seed in range(count)]
    alone, steps = [], []
    for request in requests:
        before = lm_tokens(served, STREAM)
        alone.append(joined(stream(served, request)))
        steps.append(lm_tokens(served, STREAM) - before)
    assert [len(wave) for wave in alone] == [2560 * round(12.5 * (2 + 0.5 * seed)) for seed in range(count)]
    before = lm_tokens(served, STREAM)
    with ThreadPoolExecutor(1) as pool:
        with loop.closed():
            together = pool.submit(burst, served, requests)
            loop.wait_for(lambda: loop.open() == count)
        for chunks, wanted in zip(together.result(), alone, strict=True):
            assert_same(joined(chunks), wanted)
    assert max(steps) <= lm_tokens(served, STREAM) - before <= max(steps) + parts * (count - 1) < sum(steps)


def test_a_client_that_goes_away_stops_the_language_model(served: Service, client: grpc.InferenceServerClient) -> None:
    long = say(max_seconds=60.0)
    before = lm_tokens(served, STREAM)
    assert len(stream(served, long, most=1)) == 1
    deadline, count = time.monotonic() + 20, -1
    while count != (now := lm_tokens(served, STREAM)):
        assert time.monotonic() < deadline, "the language model keeps decoding after the client has gone"
        count = now
        time.sleep(1.0)
    assert 18 < count - before < 400, "of the 757 rows of a minute"
    assert len(whole(client, say(max_seconds=1.0))) == 12 * 2560


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (say("[S3]Who?"), r"target_text: names \[S3\]"),
        (say(""), "target_text: has nothing to say"),
        (say("[S1] [S2]"), "target_text: has nothing to say"),
        (say("[S1]" + "long " * 2000), "target_text: the prompt has .* positions, references included; the limit is"),
        (say(reference_wav=sound(1.0)), "reference_text: is missing; send the transcript of reference_wav"),
        (say(reference_wav=sound(0.2), reference_text="x"), "reference_wav: too short"),
        (say(reference_wav=sound(0.0), reference_text="x"), "reference_wav: is empty: it has no samples"),
        (say(reference_wav=np.stack([sound(1.0)] * 2), reference_text="x"), "reference_wav: has 2 rows|batch"),
        (say(reference_wav=sound(1.0) * np.nan, reference_text="x"), "reference_wav: contains NaN"),
        (say(temperature=[1.0] * 3), "temperature: has 3 values; send one, or one for each of 8 channels"),
    ],
)
def test_bad_requests_are_named_and_the_server_goes_on(
    served: Service, client: grpc.InferenceServerClient, inputs: Inputs, message: str
) -> None:
    with pytest.raises(InferenceServerException, match=message):
        whole(client, inputs)
    with pytest.raises(InferenceServerException, match=message):
        stream(served, inputs)
    assert len(whole(client, say(max_seconds=0.5))) == 6 * 2560
