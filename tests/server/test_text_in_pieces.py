"""Text that arrives in pieces on a real server: speech begins before its end, and state is bounded."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server.conftest import lm_tokens, text
from server.test_versions import recording, tensors
from support.exports import exported
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from tritone.catalog import open_family
from tritone.client.errors import InvalidArgument, ServerBusy
from tritone.client.speech_client import SpeechClient
from tritone.door.limits import Limits
from tritone.engines.onnx import onnx_call
from tritone.families.cosyvoice.checkpoint.folder import load_config
from tritone.families.cosyvoice.lm.bistream import bistream
from tritone.families.cosyvoice.lm.mixing import TurnPrompt
from tritone.families.cosyvoice.lm.silence import without_long_silence
from tritone.families.cosyvoice.lm.special_tokens import END_OF_PROMPT
from tritone.families.cosyvoice.speak.request import stored
from tritone.families.cosyvoice.speak.stream import Synthesizer
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.families.cosyvoice.voices.speakers import read_voices
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.lm.genai import genai_llm
from tritone.lm.sampling import seeded_draw
from tritone.server.repository import render, write
from tritone.supervisor.launch import Server
from tritone.supervisor.locate import free_ports
from tritone.supervisor.service import Service

PATIENCE = 8
LIMITS = "".join(
    f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }} '
    for key, value in {"sequences": 2, "sequence_patience": PATIENCE}.items()
)


class Served:
    """A version's server with small limits, and where its checkpoint and exports are."""

    def __init__(self, version: int, folder: Path, build: Path, server: Service) -> None:
        self.version, self.folder, self.build, self.server = version, folder, build, server
        self.model = f"cosyvoice{version}"

    def client(self) -> SpeechClient:
        return SpeechClient(f"127.0.0.1:{self.server.ports.grpc}", model=self.model, timeout=120)


@pytest.fixture(scope="module", params=[2, 3], ids=lambda version: f"cosyvoice{version}")
def served(
    request: pytest.FixtureRequest, complete: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    version = request.param
    home = tmp_path_factory.mktemp("pieces")
    folder = complete(version)
    family, build = open_family(folder), exported(folder, f"tests-tiny-v{version}")
    (home / "overrides").mkdir()
    (home / "overrides" / f"{family.name}_stream.pbtxt").write_text(LIMITS)
    write(render(family, "cpu", home / "overrides"), home / "repository")
    env = {"TRITONE_MODEL_DIR": str(folder), "TRITONE_BUILD_DIR": str(build), "OMP_NUM_THREADS": "1"}
    triton = Server(home / "repository", home / "server", env)
    with Service(family, triton, free_ports(), limits=Limits(streams=16)).start() as server:
        yield Served(version, folder, build, server)


def offline(served: Served, pieces: list[str], seed: int) -> np.ndarray:
    """Return the speech of the interleaving generator on the exported networks, without a server."""
    config, front = load_config(served.folder), TextFrontend(served.folder)
    family = open_family(served.folder)
    call = onnx_call(served.build, family.stages, threads=1)
    voice: Voice = stored("a", read_voices(served.folder))
    session = genai_llm(served.build).session()
    codes = bistream(
        session,
        [front.encode(piece) for piece in pieces],
        config.lm,
        seeded_draw(int(np.random.SeedSequence([seed, 0]).generate_state(1)[0])),
        TurnPrompt(front.encode(front.system_prompt + END_OF_PROMPT) if front.system_prompt else ()),
    )
    speech = without_long_silence(codes, config.version.silent_tokens)
    stages = {stage.name: stage for stage in family.stages}
    return np.concatenate(list(Synthesizer(call, stages, config).waveform(speech, voice, seed=seed)))


def test_speech_begins_before_the_text_ends_and_equals_the_generator(served: Served) -> None:
    heard, pieces = threading.Event(), ["Hello ", "there, ", "Bob."]

    def coming() -> Iterator[str]:
        yield from pieces[:2]
        assert heard.wait(60), "no audio came before the last piece was sent"
        yield pieces[2]

    with served.client() as client:
        found = []
        for chunk in client.speak_pieces(coming(), speaker="a", seed=3):
            found.append(chunk)
            heard.set()
    assert len(found) > 2
    np.testing.assert_allclose(np.concatenate(found), offline(served, pieces, seed=3), atol=1e-5)


def test_voice_of_a_recording_and_pieces_of_any_size_give_the_same(served: Served) -> None:
    with served.client() as client:
        voice = {"reference": recording(1.0)["reference_wav"][0][0], "reference_text": "Ah.", "seed": 1}
        waves = [
            np.concatenate(list(client.speak_pieces(pieces, **voice)))
            for pieces in (["Good day."], ["G", "", "ood d", "ay", "."])
        ]
    np.testing.assert_array_equal(*waves)
    assert waves[0].size > 5000


def test_error_of_whoever_writes_the_text_reaches_the_listener(served: Served) -> None:
    def broken() -> Iterator[str]:
        yield "Hello "
        raise OSError("the writer has gone")

    with served.client() as client, pytest.raises(OSError, match="the writer has gone"):
        list(client.speak_pieces(broken(), speaker="a"))


def test_text_with_nothing_to_speak_is_refused(served: Served) -> None:
    with served.client() as client:
        with pytest.raises(InvalidArgument, match="target_text: the text is empty"):
            list(client.speak_pieces([], speaker="a"))
        with pytest.raises(InvalidArgument, match=r"target_text: nothing to speak in '\.\.\.'"):
            list(client.speak_pieces([".", ".", "."], speaker="a"))
        with pytest.raises(InvalidArgument, match=r"speaker: .*'stranger'"):
            list(client.speak_pieces(["Hi ", "you."], speaker="stranger"))
        with pytest.raises(InvalidArgument, match="mode: vc has no text that could come in pieces"):
            list(client.speak_pieces(["Hi."], source=recording(1.0)["reference_wav"][0][0], mode="vc"))


class Raw:
    """One gRPC stream used by hand."""

    def __init__(self, served: Served) -> None:
        self.model = f"{served.model}_stream"
        self.connection = grpc.InferenceServerClient(f"127.0.0.1:{served.server.ports.grpc}")
        self.answers: queue.Queue[Any] = queue.Queue()
        self.connection.start_stream(lambda result, error: self.answers.put(error or result))

    def send(self, sequence: int, piece: str | bytes, start: bool = False, end: bool = False, **inputs: Any) -> None:
        self.connection.async_stream_infer(
            self.model,
            tensors({"target_text": text(piece), **inputs}),
            request_id=f"{sequence}{'' if start else '+'}",
            sequence_id=sequence,
            sequence_start=start,
            sequence_end=end,
            enable_empty_final_response=True,
        )

    def error(self, timeout: float = 60) -> str:
        """Return the next answer that is an error."""
        while True:
            answer = self.answers.get(timeout=timeout)
            if isinstance(answer, InferenceServerException):
                return str(answer.message())

    def close(self) -> None:
        self.connection.stop_stream(cancel_requests=True)
        self.connection.close()


@pytest.fixture
def raw(served: Served) -> Iterator[Callable[[], Raw]]:
    """Opens streams, which are cancelled in the end."""
    opened: list[Raw] = []

    def open_stream() -> Raw:
        opened.append(Raw(served))
        return opened[-1]

    yield open_stream
    for stream in opened:
        stream.close()


def test_pieces_of_no_open_sequence_are_refused_by_name(raw: Callable[[], Raw]) -> None:
    stream = raw()
    stream.send(99, "Hello.")
    assert "sequence_id: 99 is not open: it never began" in stream.error()
    stream.send(7, "Hello there, ", start=True, speaker=text("a"))
    stream.send(7, "Hello.", start=True)
    assert "sequence_id: 7 is already open" in stream.error()
    stream.send(7, "you.", speaker=text("b"))
    assert "speaker: came with a later piece; send it with the first" in stream.error()
    stream.send(7, b"\xff")
    assert "target_text: is not UTF-8 (byte 0)" in stream.error()
    stream.send(7, "you.", end=True)
    stream.send(7, "Too late.")
    assert "sequence_id: 7 has had its last piece" in stream.error()
    while True:  # to the end of the speech
        answer = stream.answers.get(timeout=60)
        final = answer.get_response().parameters["triton_final_response"].bool_param
        if final and answer.get_response().id == "7":
            break
    stream.send(7, "Much too late.")
    assert "INVALID_ARGUMENT: sequence_id: 7 is not open" in stream.error()


def test_open_sequences_are_few_and_a_client_that_goes_away_frees_its_own(
    served: Served, raw: Callable[[], Raw]
) -> None:
    first = raw()
    for sequence in (1, 2):
        first.send(sequence, "Hello there, ", start=True, speaker=text("a"))
    while first.answers.empty():
        time.sleep(0.05)
    with served.client() as client:
        with pytest.raises(ServerBusy, match="_stream is busy: 2 texts are arriving already"):
            list(client.speak_pieces(["Hello."], speaker="a"))
        # What comes in one request is no sequence, and goes on.
        assert sum(chunk.size for chunk in client.stream("Hi.", speaker="a")) > 1000
        first.connection.stop_stream(cancel_requests=True)
        time.sleep(1.0)
        decoded = lm_tokens(served.server, f"{served.model}_stream")
        time.sleep(0.5)
        assert lm_tokens(served.server, f"{served.model}_stream") == decoded
        assert sum(chunk.size for chunk in client.speak_pieces(["Hi", "."], speaker="a")) > 1000


def test_a_text_that_does_not_go_on_is_given_up(served: Served, raw: Callable[[], Raw]) -> None:
    stream, began = raw(), time.monotonic()
    stream.send(5, "Hi", start=True, speaker=text("a"))
    assert f"target_text: no piece came for {PATIENCE} s and no sequence_end" in stream.error()
    assert time.monotonic() - began > PATIENCE - 1
    stream.send(5, "again.")
    assert "sequence_id: 5 is not open" in stream.error()
