"""Connections on the HTTP port and the metrics port: a bounded number, and none that sends or reads nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from support.door_helpers import new_desk, until
from support.web_helpers import Got, PlayedTriton, Web, event, run, streaming, text_input

from tritone.door.limits import Limits
from tritone.door.web import connections
from tritone.door.web.metrics_page import MetricsPage

SOON = 0.05
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a new connection that answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(LIVE)
    assert b"200" in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the door look at its connections every few milliseconds."""
    monkeypatch.setattr(connections.Connections.__init__, "__defaults__", (0.5, SOON))


def test_connections_beyond_the_limit_are_closed_at_once_and_others_stay(tmp_path: Path) -> None:
    async def test(place: Web) -> None:
        kept = [await opened(place.port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        assert await reader.read() == b""
        writer.close()
        kept[0][1].close()
        await until(lambda: len(place.door._runner.server.connections) == 2)  # type: ignore[union-attr]
        kept[0] = await opened(place.port)
        for reader, writer in kept:
            writer.write(LIVE)
            assert b"200" in await reader.readuntil(b"\r\n\r\n")
            writer.close()

    run(tmp_path, test, limits=Limits(connections=3))


@pytest.mark.parametrize("sent", [LIVE, b"GET / HTTP/9\r\n\r\n"])
def test_no_answer_names_the_programs_behind_the_door(tmp_path: Path, sent: bytes) -> None:
    async def test(place: Web) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(sent)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b"server: tritone\r\n" in head and b"aiohttp" not in head and b"python" not in head
        writer.close()

    run(tmp_path, test)


@pytest.mark.parametrize("sent", [b"", LIVE[:20], LIVE[:-2]])
def test_a_connection_whose_first_request_does_not_come_is_closed(tmp_path: Path, sent: bytes) -> None:
    async def test(place: Web) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        writer.write(sent)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 20)
            raise ConnectionResetError  # an abort looks like an end to some systems
        writer.close()
        await until(lambda: not place.door._runner.server.connections)  # type: ignore[union-attr]

    run(tmp_path, test)


def test_a_connection_is_closed_when_it_is_idle_for_long(tmp_path: Path) -> None:
    async def test(place: Web) -> None:
        reader, writer = await opened(place.port)
        writer.write(LIVE[:20])  # the head of a second request, which does not go on
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()

    run(tmp_path, test, limits=Limits(idle_seconds=0.3))


def test_a_request_that_takes_long_keeps_its_connection(tmp_path: Path) -> None:
    async def answer(_request: web.Request, got: Got) -> web.Response:
        await asyncio.sleep(1.5)
        return web.json_response({"id": got.json["id"]})

    async def test(place: Web) -> None:
        assert (await place.infer(text_input()))[0] == 200

    run(tmp_path, test, PlayedTriton(answer), Limits(idle_seconds=0.3, patience=0.3))


@pytest.mark.parametrize("call", ["infer", "generate_stream"])
def test_a_client_that_reads_nothing_is_given_up(tmp_path: Path, call: str) -> None:
    async def answer(request: web.Request, got: Got) -> web.StreamResponse:
        if call == "infer":
            return web.Response(body=bytes(64 << 20))
        response = await streaming(request)
        data = event(got, 100_000)
        for _ in range(200):
            await response.write(data)
        return response

    async def test(place: Web) -> None:
        name = "voice" if call == "infer" else "voice_stream"
        body = json.dumps(text_input() if call == "infer" else {"target_text": "hello"}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        head = f"POST /v2/models/{name}/{call} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await reader.readline()
        server = place.door._runner.server  # type: ignore[union-attr]
        await until(lambda: not server.connections)
        await until(lambda: not list(place.desk.tickets))
        writer.close()

    run(tmp_path, test, PlayedTriton(answer), Limits(patience=0.5, unread_bytes=1 << 30))


def test_stopping_waits_for_running_requests_and_refuses_new_ones(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def answer(_request: web.Request, got: Got) -> web.Response:
        await release.wait()
        return web.json_response({"id": got.json["id"]})

    triton = PlayedTriton(answer)

    async def test(place: Web) -> None:
        asking = asyncio.create_task(place.infer(text_input(id="mine")))
        await until(lambda: bool(triton.got))
        stopping = asyncio.create_task(place.door.stop(20))
        await asyncio.sleep(SOON)
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", place.port)
        release.set()
        assert (await asking)[0] == 200
        await stopping

    run(tmp_path, test, triton)


def test_the_metrics_page_has_both_parts_and_the_doors_alone_without_triton(tmp_path: Path) -> None:
    async def answer(request: web.Request, _got: Got) -> web.Response:
        return web.Response(text="nv_inference_count 3\n" if request.path == "/metrics" else "odd")

    async def test(place: Web) -> None:
        for socket, expected in (("http", True), ("absent", False)):
            page = MetricsPage(new_desk(tmp_path), tmp_path / socket)
            port = await page.start("127.0.0.1", 0)
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                async with session.get("/metrics") as reply:
                    text = await reply.text()
                    assert reply.status == 200 and reply.headers["Content-Type"].startswith("text/plain")
                async with session.get("/v2") as reply:
                    assert reply.status == 404
            assert ("nv_inference_count 3" in text) == expected and "tritone_ready 1.0" in text
            await page.stop(0)

    run(tmp_path, test, PlayedTriton(answer))
