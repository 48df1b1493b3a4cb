"""Streams of server-sent events and clients that leave or do not read, before a Triton that the test plays."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from support.door_helpers import until
from support.web_helpers import Got, PlayedTriton, Web, event, run, spoken, streaming, text_input

from tritone.door.limits import Limits

STREAM = "/v2/models/voice_stream/generate_stream"
ASK = {"id": "mine", "target_text": "hello"}


def events_of(body: bytes) -> list[Any]:
    """Return the JSON of each event."""
    return [json.loads(part.removeprefix(b"data: ")) for part in body.split(b"\n\n") if part]


def test_events_come_with_the_clients_id_and_are_counted(tmp_path: Path) -> None:
    async def answer(request: web.Request, got: Got) -> web.StreamResponse:
        response = await streaming(request)
        data = event(got, 70) * 3
        for cut in range(0, len(data), 61):  # wherever the pieces end
            await response.write(data[cut : cut + 61])
            await asyncio.sleep(0)
        return response

    async def test(place: Web) -> None:
        async with place.session.post(STREAM, json=ASK) as reply:
            assert (reply.status, reply.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
            got = events_of(await reply.read())
        assert [one["id"] for one in got] == ["mine"] * 3 and all(len(one["waveform"]) == 70 for one in got)
        assert place.desk.metrics.speech.labels("voice_stream")._value.get() == pytest.approx(3 * 70 / 100)
        assert place.desk.metrics.first_sound.labels("voice_stream")._sum.get() > 0
        async with place.session.post(STREAM, json={"target_text": "hello"}) as reply:
            assert all("id" not in one for one in events_of(await reply.read()))

    run(tmp_path, test, PlayedTriton(answer))


def test_the_first_event_does_not_wait_for_the_second(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def answer(request: web.Request, got: Got) -> web.StreamResponse:
        response = await streaming(request)
        await response.write(event(got))
        await release.wait()
        return response

    async def test(place: Web) -> None:
        async with place.session.post(STREAM, json=ASK) as reply:
            assert (await reply.content.readline()).startswith(b"data: ")
            assert place.desk.count("stream") == 1
            release.set()
            await reply.read()
        await until(lambda: place.desk.count("stream") == 0)

    run(tmp_path, test, PlayedTriton(answer))


def test_an_error_within_a_stream_is_its_last_event(tmp_path: Path) -> None:
    async def answer(request: web.Request, got: Got) -> web.StreamResponse:
        response = await streaming(request)
        await response.write(event(got))
        error = {"error": "Failed to increase the shared memory pool for key 'tritone-8000-x'"}
        await response.write(b"data: " + json.dumps(error, separators=(",", ":")).encode() + b"\n\n")
        return response

    async def test(place: Web) -> None:
        async with place.session.post(STREAM, json=ASK) as reply:
            first, last = events_of(await reply.read())
        assert first["id"] == "mine"
        assert last == {"error": "voice_stream has too little shared memory for this request"}

    run(tmp_path, test, PlayedTriton(answer))


@pytest.mark.parametrize("begun", [False, True])
def test_a_model_that_died_ends_its_stream_with_the_reason(tmp_path: Path, begun: bool) -> None:
    async def answer(request: web.Request, got: Got) -> web.StreamResponse:
        response = await streaming(request)
        if begun:
            await response.write(event(got))
        await asyncio.sleep(60)
        return response

    triton = PlayedTriton(answer)

    async def test(place: Web) -> None:
        call = asyncio.create_task(place.ask("POST", STREAM, json=ASK))
        await until(lambda: bool(triton.got) and (not begun or any(ticket.first for ticket in place.desk.tickets)))
        place.desk.lose("its process ended")
        status, body = await call
        said = "voice_stream could not finish the request: its process ended; try again"
        assert (status, body if not begun else events_of(body)[-1]) == (200 if begun else 503, {"error": said})
        assert not list(place.desk.tickets)
        assert place.desk.metrics.cancelled.labels("voice_stream")._value.get() == 0

    run(tmp_path, test, triton)


def test_a_whole_utterance_whose_model_died_is_answered(tmp_path: Path) -> None:
    async def answer(_request: web.Request, _got: Got) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    triton = PlayedTriton(answer)

    async def test(place: Web) -> None:
        call = asyncio.create_task(place.infer(text_input()))
        await until(lambda: bool(triton.got))
        place.desk.lose("its process ended")
        assert await call == (503, {"error": "voice could not finish the request: its process ended; try again"})

    run(tmp_path, test, triton)


@pytest.mark.parametrize("call", ["infer", "generate", "generate_stream"])
def test_a_client_that_leaves_is_told_to_the_models_and_its_place_stays_taken(tmp_path: Path, call: str) -> None:
    release = asyncio.Event()
    kind = "stream" if call == "generate_stream" else "whole"
    path = STREAM if kind == "stream" else f"/v2/models/voice/{call}"

    async def answer(request: web.Request, got: Got) -> web.StreamResponse:
        if kind == "whole":
            await release.wait()
            return spoken(got)
        response = await streaming(request)
        await response.write(event(got))
        await release.wait()
        return response

    triton = PlayedTriton(answer)

    async def test(place: Web) -> None:
        body = text_input() if call == "infer" else ASK
        asking = asyncio.create_task(place.ask("POST", path, json=body))
        await until(lambda: bool(triton.got))
        asking.cancel()
        inside = triton.got[0].json["id"]
        await until(lambda: place.desk.flags.cancelled(inside))
        assert place.desk.count(kind) == 1
        release.set()
        await until(lambda: place.desk.count(kind) == 0)
        assert not place.desk.flags.cancelled(inside)

    run(tmp_path, test, triton)


def test_a_client_that_leaves_the_line_never_reaches_triton(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def answer(_request: web.Request, got: Got) -> web.Response:
        await release.wait()
        return spoken(got)

    triton = PlayedTriton(answer)

    async def test(place: Web) -> None:
        first = asyncio.create_task(place.infer(text_input()))
        await until(lambda: bool(triton.got))
        second = asyncio.create_task(place.infer(text_input()))
        await until(lambda: place.desk._waiting == 1)
        second.cancel()
        await until(lambda: place.desk._waiting == 0)
        release.set()
        assert (await first)[0] == 200

    run(tmp_path, test, triton, Limits(whole=1))
    assert len(triton.got) == 1


def test_a_reader_that_stops_pauses_its_stream_alone(tmp_path: Path) -> None:
    written = 0

    async def answer(request: web.Request, got: Got) -> web.StreamResponse:
        nonlocal written
        response = await streaming(request)
        while written < 20_000 and not place_of["desk"].flags.cancelled(got.json["id"]):
            if place_of["desk"].flags.paused(got.json["id"]):
                await asyncio.sleep(0.01)
                continue
            await response.write(event(got, 2000))
            written += 1
        return response

    place_of: dict[str, Any] = {}
    triton = PlayedTriton(answer)

    async def test(place: Web) -> None:
        place_of["desk"] = place.desk
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{place.port}", connector=connector) as client:
            async with client.post(STREAM, json=ASK) as reply:
                await reply.content.readline()
                await until(lambda: place.desk.count("stream", paused=True) == 1)
                before = written
                while written == before:  # reading lets it go on
                    await reply.content.readany()
                await until(lambda: place.desk.count("stream", paused=True) == 1)
        await until(lambda: place.desk.count("stream") == 0)
        assert place.desk.metrics.cancelled.labels("voice_stream")._value.get() == 1

    run(tmp_path, test, triton, Limits(unread_bytes=50_000))
    assert written < 20_000


def test_streams_beyond_the_limit_are_busy(tmp_path: Path) -> None:
    async def answer(request: web.Request, got: Got) -> web.StreamResponse:
        response = await streaming(request)
        await response.write(event(got))
        await asyncio.sleep(60)
        return response

    async def test(place: Web) -> None:
        async with place.session.post(STREAM, json=ASK) as reply:
            await reply.content.readline()
            async with place.session.post(STREAM, json=ASK) as other:
                assert (other.status, other.headers["Retry-After"]) == (503, "1")
                assert (await other.json())["error"].startswith("BUSY: 1 requests are being spoken")
            place.desk.lose("the test is over")

    run(tmp_path, test, PlayedTriton(answer), Limits(streams=1))
