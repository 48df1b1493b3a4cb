"""Clients that know one name for whole utterances and for streams, before a Triton that the test plays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from support import web_helpers
from support.door_helpers import FakeTriton, House, ask, chunk, house
from support.published_client import options, speak
from tritonclient.grpc import service_pb2 as pb

from tritone.catalog import open_family
from tritone.door.entries import DATATYPES, entries_of
from tritone.door.refusal import Refused
from tritone.errors import ConfigError
from tritone.server.model_config import DTYPES
from tritone.server.model_config import pb as config_pb

RECORDING = np.zeros(16000, np.float32)


async def answers(request: pb.ModelInferRequest) -> AsyncIterator[pb.ModelStreamInferResponse]:
    """Yield two chunks and an empty end from the stream, and from the other model its only answer, marked as last."""
    if request.model_name == "voice_stream":
        yield chunk(request.id, 30)
        yield chunk(request.id, 20)
    yield chunk(request.id, 0 if request.model_name == "voice_stream" else 50, final=True)


def with_door(folder: Path, test: object, triton: FakeTriton) -> None:
    """Run a coroutine function in a house."""

    async def body() -> None:
        async with house(folder, triton) as place:
            await test(place)  # type: ignore[operator]

    asyncio.run(body())


@pytest.mark.parametrize("name", ["voice", "voice_stream", "other_voice"])
def test_the_published_client_hears_chunks_under_the_name_of_the_whole_utterance(tmp_path: Path, name: str) -> None:
    async def test(_place: House) -> None:
        url = f"unix:{tmp_path}/door"
        streaming = ["--model-name", "cosyvoice2", "--mode", "streaming", "--target-text", "hello"]
        heard = await asyncio.to_thread(speak, streaming, RECORDING, url, name)
        assert [len(one) for one in heard] == [30, 20]
        if name != "voice_stream":
            offline = ["--model-name", "cosyvoice2", "--target-text", "hello"]
            heard = await asyncio.to_thread(speak, offline, RECORDING, url, name)
            assert [len(one) for one in heard] == [50]

    triton = FakeTriton(stream=answers)
    with_door(tmp_path, test, triton)
    assert [one.model_name for one in triton.requests] == ["voice_stream", "voice"][: 1 + (name != "voice_stream")]
    padded = triton.requests[0].inputs[0]
    assert (padded.name, list(padded.shape)) == ("reference_wav", [1, 160000])


def test_a_stream_of_one_name_carries_both_kinds_of_requests(tmp_path: Path) -> None:
    ended = ask("voice", request_id="a")
    ended.parameters["triton_enable_empty_final_response"].bool_param = True
    piece = ask("voice", request_id="b")
    piece.parameters["sequence_id"].int64_param = 7
    piece.parameters["sequence_start"].bool_param = True

    async def test(place: House) -> None:
        async def requests() -> AsyncIterator[pb.ModelInferRequest]:
            for request in (ended, piece, ask("voice", request_id="c")):
                yield request

        heard = [one.infer_response async for one in place.client.ModelStreamInfer(requests())]
        assert {one.model_name for one in heard} == {"voice"}
        lengths = {name: [sum(t.shape[1] for t in one.outputs) for one in heard if one.id == name] for name in "abc"}
        # Without an interest in an empty end, the whole utterance is the only answer, as from Triton itself.
        assert lengths == {"a": [30, 20, 0], "b": [30, 20], "c": [50]}

    triton = FakeTriton(stream=answers)
    with_door(tmp_path, test, triton)
    assert [one.model_name for one in triton.requests] == ["voice_stream", "voice_stream", "voice"]


def test_generate_stream_answers_in_chunks_under_either_name(tmp_path: Path) -> None:
    async def answer(request: web.Request, got: web_helpers.Got) -> web.StreamResponse:
        response = await web_helpers.streaming(request)
        await response.write(web_helpers.event(got) * 2)
        return response

    async def test(place: web_helpers.Web) -> None:
        for name in ("voice", "voice_stream", "other_voice"):
            _, body = await place.ask("POST", f"/v2/models/{name}/generate_stream", json={"target_text": "hello"})
            assert body.count(b"data: ") == 2
            assert triton.got[-1].path == "/v2/models/voice_stream/generate_stream"
        path = "/v2/models/voice_stream/generate"
        refusal = {"error": "voice_stream answers in chunks; ask its generate_stream"}
        assert await place.ask("POST", path, json={"target_text": "hello"}) == (400, refusal)
        assert await place.ask("POST", "/v2/models/voice/generate", data=json.dumps({"text": "x"})) == (
            400,
            {"error": "INVALID_ARGUMENT: text: the model has no such input; its inputs are target_text, speed, seed, "
             "reference_wav_len, quiet"},
        )  # fmt: skip

    triton = web_helpers.PlayedTriton(answer)
    web_helpers.run(tmp_path, test, triton)


def test_a_server_has_its_familys_inputs_and_further_names(tiny_v2: Path) -> None:
    family = open_family(tiny_v2)
    entries = entries_of(family, {}, ["cosyvoice2_dit", "spark_tts"])
    assert entries.find("spark_tts").name == "cosyvoice2"
    assert entries.streaming(entries.find("cosyvoice2_dit")).name == "cosyvoice2_stream"
    assert entries.streaming(entries.find("speech_tokenizer")).name == "speech_tokenizer"
    assert entries["cosyvoice2"].inputs["reference_wav_len"] == "INT32"
    assert entries["speaker_embedding"].inputs["reference_wav"] == "FP32"
    assert {key: f"TYPE_{value}".replace("BYTES", "STRING") for key, value in DATATYPES.items()} == {
        key: config_pb.DataType.Name(value) for key, value in DTYPES.items()
    }
    with pytest.raises(Refused, match="model 'f5_tts' is not served; the models are cosyvoice2, cosyvoice2_dit, "):
        entries.find("f5_tts")
    with pytest.raises(ConfigError, match="--alias cosyvoice2_stream: the server has a model of that name already"):
        entries_of(family, {}, ["cosyvoice2_stream"])
    with pytest.raises(ConfigError, match="--alias 'a/b': a model's name has letters, digits, "):
        entries_of(family, {}, ["a/b"])


def test_the_stand_in_knows_the_recipes_names_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert options(["--model-name", "cosyvoice2", "--mode", "streaming"]).mode == "streaming"
    with pytest.raises(SystemExit):
        options(["--model-name", "cosyvoice2_stream"])
    assert "invalid choice: 'cosyvoice2_stream'" in capsys.readouterr().err
