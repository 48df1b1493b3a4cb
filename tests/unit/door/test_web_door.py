"""The HTTP half of the front door: endpoints, ids, encodings and errors, before a Triton that the test plays."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import resource
import zlib
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from support.door_helpers import ENTRIES
from support.web_helpers import Got, PlayedTriton, Web, run, spoken, text_input

from tritone.door.health import ALL
from tritone.door.web.checks import MANY
from tritone.door.web.door import raise_file_limit

MODEL = "/v2/models/voice"
STREAMED = re.compile(r"voice(/.*generate_stream)")
"""A client that asks for a stream gets that of the streaming model."""
OPEN = {
    *(("GET", path) for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats", MODEL)),
    *(("GET", f"{MODEL}/{name}") for name in ("ready", "config", "stats", "versions/1", "versions/1/ready")),
    *(("GET", f"{MODEL}/versions/1/{name}") for name in ("config", "stats")),
    *(("POST", f"{MODEL}/{name}") for name in ("infer", "generate", "generate_stream", "versions/1/infer")),
    *(("POST", f"{MODEL}/versions/1/{name}") for name in ("generate", "generate_stream")),
    ("POST", "/v2/repository/index"),
}
SHUT = {
    *((method, f"/v2/{memory}sharedmemory/{rest}") for memory in ("system", "cuda") for method, rest in (
        ("GET", "status"), ("GET", "region/r/status"), ("POST", "region/r/register"), ("POST", "region/r/unregister"),
        ("POST", "unregister"),
    )),
    *((method, path) for method in ("GET", "POST") for path in (
        "/v2/trace/setting", f"{MODEL}/trace/setting", f"{MODEL}/versions/1/trace/setting", "/v2/logging",
    )),
    ("POST", "/v2/repository/models/voice/load"), ("POST", "/v2/repository/models/voice/unload"),
    ("POST", "/v2/repository/models/voice_llm/load"),
}  # fmt: skip
UNKNOWN = {
    ("GET", "/"), ("GET", "/metrics"), ("GET", "/v1"), ("GET", "/v2/"), ("GET", "/v3"), ("POST", f"{MODEL}/explain"),
    ("POST", f"{MODEL}/versions/-1/infer"), ("POST", f"{MODEL}/versions/x/infer"), ("GET", "/invocations"),
    ("POST", "/v2/repository/r/index"), ("GET", "/v2/models"), ("POST", "/v2/repository/r/models/voice/load"),
}  # fmt: skip


async def plain(request: web.Request, got: Got) -> web.Response:
    """Answer every question with something that the door can read."""
    return web.json_response([] if request.path.endswith("index") else {})


def test_tritons_endpoints_are_open_or_shut_and_no_other_passes(tmp_path: Path) -> None:
    triton = PlayedTriton(plain)

    async def test(place: Web) -> None:
        for method, path in sorted(OPEN):
            spoken = {"name": "target_text", "shape": [1, 1], "datatype": "BYTES", "data": ["hello"]}
            body = b'{"target_text":"hello"}' if "generate" in path else json.dumps({"inputs": [spoken]}).encode()
            status, _ = await place.ask(method, path, data=body if method == "POST" else None)
            assert status == 200, path
            status, _ = await place.ask(
                method, path.replace("voice", "other_voice"), data=body if method == "POST" else None
            )
            assert (status, triton.got[-1].path.count("other")) == (200, 0), path
        reached = len(triton.got)
        for method, path in sorted(SHUT):
            assert await place.ask(method, path) == (403, {"error": f"{path} is closed to clients of this server"})
        for method, path in sorted(UNKNOWN):
            assert await place.ask(method, path) == (404, {"error": f"{method} {path}: Not Found"})
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
            assert (await place.ask(method, f"{MODEL}/infer"))[0] == 405
        async with place.session.head("/v2/health/live") as answer:
            assert answer.status == 200
        assert len(triton.got) == reached

    run(tmp_path, test, triton)
    # The door answers these two itself.
    own = {("GET", "/v2/health/live"), ("GET", "/v2/health/ready")}
    reached_by = {(method, STREAMED.sub(r"voice_stream\1", path)) for method, path in OPEN - own}
    assert {(got.method, got.path) for got in triton.got} == reached_by


def test_only_entries_are_served(tmp_path: Path) -> None:
    said = {"error": "model 'voice_llm' is not served; the models are other_voice, tokens, voice, voice_stream"}
    inner = "/v2/models/voice_llm"
    triton = PlayedTriton()

    async def test(place: Web) -> None:
        for path in (inner, f"{inner}/ready", f"{inner}/config", f"{inner}/stats", f"{inner}/versions/1/config"):
            assert await place.ask("GET", path) == (404, said)
        for path in ("infer", "generate", "generate_stream", "versions/1/infer"):
            assert await place.ask("POST", f"{inner}/{path}", data=b"{}") == (404, said)
        assert not triton.got
        _, index = await place.ask("POST", "/v2/repository/index")
        _, stats = await place.ask("GET", "/v2/models/stats")
        assert [model["name"] for model in index] == [s["name"] for s in stats["model_stats"]] == list(ENTRIES)

    run(tmp_path, test, triton)


def test_readiness_is_what_the_supervisor_says(tmp_path: Path) -> None:
    async def test(place: Web) -> list[int]:
        paths = ("/v2/health/live", "/v2/health/ready", f"{MODEL}/ready", "/v2/models/voice_stream/ready")
        statuses = [(await place.ask("GET", path))[0] for path in paths]
        place.desk.health.set_unready("the process of voice ended", frozenset({"voice"}))
        for path in paths[1:3]:
            assert await place.ask("GET", path) == (503, {"error": "the process of voice ended"})
        return [*statuses, *[(await place.ask("GET", path))[0] for path in paths]]

    assert run(tmp_path, test) == [200] * 4 + [200, 503, 503, 200]


@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [False, True])
def test_ids_are_the_doors_inside_and_the_clients_outside(tmp_path: Path, packing: str | None, binary: bool) -> None:
    triton = PlayedTriton()

    async def test(place: Web) -> None:
        more: dict[str, Any] = {"parameters": {"binary_data_output": True}} if binary else {}
        headers = {"Accept-Encoding": packing or "identity"}
        for given, expected in (({"id": 'a "quoted" id'}, 'a "quoted" id'), ({}, None), ({"id": ""}, None)):
            body = json.dumps(text_input(**more, **given)).encode()
            async with place.session.post(f"{MODEL}/infer", data=body, headers=headers) as answer:
                assert answer.headers.get("Content-Encoding") == packing
                data = await answer.read()
                end = int(answer.headers.get("Inference-Header-Content-Length", len(data)))
            assert json.loads(data[:end]).get("id") == expected
            assert data[end:] == (bytes(200) if binary else b"")
        for given, expected in (({"id": "mine"}, "mine"), ({}, None)):
            body = json.dumps({"target_text": "hello", **given}).encode()
            _, answer_of_generate = await place.ask("POST", f"{MODEL}/generate", data=body)
            assert answer_of_generate.get("id") == expected
            assert answer_of_generate["waveform"] == [0.5] * 50
        value = place.desk.metrics.speech.labels("voice")._value.get()
        assert value == pytest.approx(5 * 50 / 100)

    run(tmp_path, test, triton)
    inside = [got.json["id"] for got in triton.got]
    assert len(set(inside)) == 5 and all("quoted" not in one and one != "mine" for one in inside)


@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
def test_packed_bodies_reach_triton_plain_and_whole(tmp_path: Path, packing: str | None) -> None:
    triton = PlayedTriton()
    pack = {None: bytes, "gzip": gzip.compress, "deflate": zlib.compress}[packing]
    tensor = {"name": "reference_wav", "datatype": "FP32", "shape": [1, MANY * 40], "data": [0.5] * MANY * 40}
    text = json.dumps({"inputs": [*text_input("x" * 9)["inputs"], tensor]}).encode()

    async def test(place: Web) -> None:
        headers = {"Content-Encoding": packing} if packing else {}
        assert (await place.infer(pack(text), headers=headers))[0] == 200
        # In very many chunks, which end Triton 2.51.
        head = f"POST {MODEL}/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(head.encode() + b"".join(b"1\r\n%c\r\n" % byte for byte in text) + b"0\r\n\r\n")
        assert b"200 OK" in await reader.read()
        writer.close()

    run(tmp_path, test, triton)
    for got in triton.got:
        assert "Transfer-Encoding" not in got.headers and "Content-Encoding" not in got.headers
        assert int(got.headers["Content-Length"]) == len(got.body)
        assert got.body == triton.got[0].body.replace(
            triton.got[0].json["id"].encode(), got.json["id"].encode()
        )  # fmt: skip
        assert got.json["inputs"][0] == text_input("x" * 9)["inputs"][0]
        assert got.body.endswith(b"\0\0\0\x3f" * MANY * 40)


@pytest.mark.parametrize(
    ("status", "message", "expected", "said"),
    [
        (400, "in ensemble 'voice', INVALID_ARGUMENT: speed: is 9", 400, "INVALID_ARGUMENT: speed: is 9"),
        (400, "[request id: a-0] out of bounds index 0", 400, "out of bounds index 0"),
        (400, "Stub process 'voice_llm_0_0' is not healthy.", 503, "a model's process does not answer"),
        (500, "Failed to increase the shared memory pool for key 'tritone-8000-x'", 413, "too little shared memory"),
        (503, "BUSY: eight texts are open", 503, "BUSY: eight texts are open"),
        (501, "HTTP end point doesn't support models with decoupled", 501, "HTTP end point doesn't support"),
        (200, "generate expects model to produce exactly 1 response", 400, "generate expects model to produce"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("call", ["infer", "generate", "generate_stream"])
def test_tritons_errors_reach_the_client_as_what_they_mean(
    tmp_path: Path, status: int, message: str, expected: int, said: str, call: str
) -> None:
    async def answer(_request: web.Request, _got: Got) -> web.Response:
        body = json.dumps({"error": message}, separators=(",", ":")).encode()
        return web.Response(body=b"data: " + body + b"\n\n" if call == "generate_stream" else body, status=status)

    async def test(place: Web) -> None:
        body = text_input() if call == "infer" else {"target_text": "hello"}
        got, answer_of_door = await place.ask("POST", f"{MODEL}/{call}", json=body)
        assert got == expected and said in answer_of_door["error"]
        assert "tritone-8000" not in answer_of_door["error"] and "request id" not in answer_of_door["error"]
        assert not list(place.desk.tickets)

    run(tmp_path, test, PlayedTriton(answer))


def test_a_triton_that_is_gone_is_said_in_words(tmp_path: Path) -> None:
    async def answer(request: web.Request, _got: Got) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def test(place: Web) -> None:
        for path, body in ((f"{MODEL}/infer", text_input()), ("/v2/models/voice_stream/generate_stream", {"seed": 1})):
            async with place.session.post(path, json=body) as reply:
                assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
                assert "could not finish the request" in (await reply.json())["error"]
        assert (await place.ask("GET", "/v2"))[0] == 503

    run(tmp_path, test, PlayedTriton(answer))


def test_a_request_that_met_a_reload_is_sent_again(tmp_path: Path) -> None:
    async def answer(_request: web.Request, got: Got) -> web.Response:
        if len(triton.got) == 1:
            place_of["desk"].health.set_unready("voice is loaded again", ALL)
            asyncio.get_running_loop().call_later(0.1, place_of["desk"].health.set_ready)
            return web.json_response(
                {"error": "Request for unknown model: 'voice' has no available versions"}, status=400
            )
        return spoken(got)

    triton = PlayedTriton(answer)
    place_of: dict[str, Any] = {}

    async def test(place: Web) -> None:
        place_of["desk"] = place.desk
        assert (await place.infer(text_input()))[0] == 200

    run(tmp_path, test, triton)
    assert len(triton.got) == 2 and triton.got[0].body == triton.got[1].body


def test_the_soft_limit_of_open_files_becomes_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard, 512), hard))
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
