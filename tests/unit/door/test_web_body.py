"""Bodies on the HTTP port: bounded in size, packed size, time, number of chunks and all together."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from support.door_helpers import until
from support.web_helpers import PlayedTriton, Web, run, text_input

from tritone.door.limits import Limits
from tritone.door.web import body as body_module

MOST = 200_000
LIMITS = Limits(request_bytes=MOST)
INFER = "/v2/models/voice/infer"
TOO_LARGE = {"error": f"the body is larger than {MOST} bytes, which is the limit"}


async def raw(port: int, *parts: bytes) -> bytes:
    """Return the first line of the answer to these bytes, sent over a connection of their own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
    try:
        return await reader.readline()
    finally:
        writer.close()


def head(*more: str) -> bytes:
    """Return the head of an `infer` request with more fields."""
    return "\r\n".join([f"POST {INFER} HTTP/1.1", "Host: x", *more, "", ""]).encode()


def test_a_body_that_says_it_is_too_large_is_not_read(tmp_path: Path) -> None:
    triton = PlayedTriton()

    async def test(place: Web) -> None:
        # Not a byte of the body is sent.
        assert b" 413 " in await raw(place.port, head(f"Content-Length: {MOST + 1}"))
        assert b" 413 " in await raw(place.port, head("Content-Length: 99999999999999"))
        assert b" 400 " in await raw(place.port, head("Content-Length: -1"))
        assert b" 400 " in await raw(place.port, head("Content-Length: 5", "Transfer-Encoding: chunked"))

    run(tmp_path, test, triton, LIMITS)
    assert not triton.got


def test_a_body_that_turns_out_too_large_is_read_no_further(tmp_path: Path) -> None:
    triton = PlayedTriton()

    async def test(place: Web) -> None:
        async def endless() -> Any:
            while True:
                yield bytes(1000)

        status, said = await place.ask("POST", INFER, data=endless())
        assert (status, said) == (413, TOO_LARGE)
        assert place.door._bodies.held == 0

    run(tmp_path, test, triton, LIMITS)
    assert not triton.got


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_packed_body_is_bounded_by_its_unpacked_size(tmp_path: Path, pack: Any) -> None:
    triton = PlayedTriton()
    encoding = "gzip" if pack is gzip.compress else "deflate"

    async def test(place: Web) -> None:
        bomb = pack(b" " * (100 << 20))
        assert len(bomb) < MOST
        headers = {"Content-Encoding": encoding}
        assert await place.ask("POST", INFER, data=bomb, headers=headers) == (413, TOO_LARGE)
        status, said = await place.ask("POST", INFER, data=pack(b'{"a":1}')[:-6] + b"xxxxxx", headers=headers)
        assert (status, said["error"][:23]) == (400, "the body cannot be read")
        status, said = await place.ask("POST", INFER, data=b"plain", headers=headers)
        assert (status, said["error"][:23]) == (400, "the body cannot be read")

    run(tmp_path, test, triton, LIMITS)
    assert not triton.got


@pytest.mark.parametrize("encoding", ["gzip, gzip", "odd", "br", "zstd"])
def test_an_unknown_packing_is_refused(tmp_path: Path, encoding: str) -> None:
    triton = PlayedTriton()

    async def test(place: Web) -> tuple[int, Any]:
        return await place.infer(text_input(), headers={"Content-Encoding": encoding})

    status, said = run(tmp_path, test, triton)
    if encoding in ("br", "zstd"):  # aiohttp knows them, if it finds their packages, and says so itself if not
        assert status in (400, 415)
    else:
        assert status == 415
        assert said == {"error": f"the body's encoding is '{encoding}'; known are gzip and deflate"}
    assert not triton.got


def test_six_hundred_thousand_chunks_end_in_an_answer(tmp_path: Path) -> None:
    triton = PlayedTriton()

    async def test(place: Web) -> None:
        chunks = head("Transfer-Encoding: chunked") + b"1\r\n \r\n" * 600_000 + b"0\r\n\r\n"
        assert b" 413 " in await raw(place.port, chunks)
        assert (await place.infer(text_input()))[0] == 200

    run(tmp_path, test, triton, LIMITS)
    assert len(triton.got) == 1


def test_two_hundred_thousand_brackets_end_in_an_answer(tmp_path: Path) -> None:
    triton = PlayedTriton()

    async def test(place: Web) -> None:
        for body in (b"[" * 200_000, b'{"inputs":' + b"[" * 90_000, b'{"a":' * 30_000):
            for call in ("infer", "generate", "generate_stream"):
                assert (await place.ask("POST", f"/v2/models/voice/{call}", data=body))[0] == 400
        assert (await place.infer(text_input()))[0] == 200

    run(tmp_path, test, triton)
    assert len(triton.got) == 1


def test_a_body_has_to_arrive_in_time(tmp_path: Path) -> None:
    triton = PlayedTriton()

    async def test(place: Web) -> None:
        place.door._bodies._seconds = 0.2
        assert b" 408 " in await raw(place.port, head("Content-Length: 100"), b'{"inputs"')
        assert place.door._bodies.held == 0

    run(tmp_path, test, triton)
    assert not triton.got


def test_bodies_together_are_bounded_and_small_ones_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "TOGETHER", 2)

    async def test(place: Web) -> None:
        bodies = place.door._bodies
        slow = []
        for _ in range(2):
            _, writer = await asyncio.open_connection("127.0.0.1", place.port)
            writer.write(head(f"Content-Length: {MOST}") + bytes(MOST - 1))
            slow.append(writer)
        await until(lambda: bodies.held == 2 * (MOST - 1))
        status, said = await place.infer(b" " * MOST)
        assert (status, said["error"]) == (
            503, "BUSY: other requests with large bodies are being read; try again later"
        )  # fmt: skip
        assert (await place.infer(text_input()))[0] == 200
        for writer in slow:
            writer.close()
        await until(lambda: bodies.held == 0)
        assert (await place.infer(b" " * MOST))[0] == 400

    run(tmp_path, test, limits=LIMITS)


@pytest.mark.parametrize("header", ["-1", "1e3", "9" * 5000, "99", "٣", " "])
def test_where_the_json_ends_must_be_a_place_in_the_body(tmp_path: Path, header: str) -> None:
    triton = PlayedTriton()

    async def test(place: Web) -> None:
        parts = head(f"Inference-Header-Content-Length: {header}", "Content-Length: 2") + b"{}"
        assert b" 400 " in await raw(place.port, parts)

    run(tmp_path, test, triton)
    assert not triton.got


def test_others_are_answered_while_a_large_body_is_checked(tmp_path: Path) -> None:
    order: list[str] = []

    async def test(place: Web) -> None:
        values = [0.123456789] * 400_000
        tensor = {"name": "reference_wav", "datatype": "FP32", "shape": [1, len(values)], "data": values}
        body = json.dumps({"inputs": [tensor]}).encode()

        async def large() -> None:
            assert (await place.infer(body))[0] == 200
            order.append("large")

        work = asyncio.create_task(large())
        await until(lambda: place.door._bodies.held == len(body))
        await place.ask("GET", "/v2/health/live")
        order.append("small")
        await work

    run(tmp_path, test)
    assert order == ["small", "large"]
