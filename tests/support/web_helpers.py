"""An HTTP front door before a Triton that is played by a test, on a socket in a temporary folder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from support.door_helpers import ENTRIES, new_desk
from tritone.door.desk import Desk
from tritone.door.limits import Limits
from tritone.door.web.door import HttpDoor

Json = dict[str, Any]


@dataclass
class Got:
    """A request that reached Triton."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        """The JSON of its body."""
        length = self.headers.get("Inference-Header-Content-Length")
        return json.loads(self.body[: int(length)] if length else self.body)  # type: ignore[no-any-return]


@dataclass
class PlayedTriton:
    """Answers as a test tells it, and keeps what it got; by default with 50 samples."""

    answer: Callable[[web.Request, Got], Awaitable[web.StreamResponse]] | None = None
    got: list[Got] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Keep the request and answer it."""
        got = Got(request.method, request.path, request.headers, await request.read())
        self.got.append(got)
        if self.answer is not None:
            return await self.answer(request, got)
        if request.path.endswith(("infer", "generate")):
            return spoken(got)
        if request.path.endswith("index"):
            return web.json_response([{"name": name} for name in (*ENTRIES, "voice_llm")])
        if request.path.endswith("models/stats"):
            return web.json_response({"model_stats": [{"name": name} for name in (*ENTRIES, "voice_llm")]})
        return web.json_response({"path": request.path})


def spoken(got: Got, samples: int = 50) -> web.Response:
    """Return an answer of Triton's to `infer` or `generate`, as Triton writes it."""
    head: Json = {"id": got.json["id"], "model_name": "voice", "model_version": "1"}
    values = [0.5] * samples
    if got.path.endswith("generate"):
        body: Json = {**head, "waveform": values}
    else:
        output = {"name": "waveform", "datatype": "FP32", "shape": [1, samples]}
        if got.json.get("parameters", {}).get("binary_data_output"):
            output["parameters"] = {"binary_data_size": 4 * samples}
            text = json.dumps({**head, "outputs": [output]}, separators=(",", ":")).encode()
            headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
            return web.Response(body=text + bytes(4 * samples), headers=headers)
        body = {**head, "outputs": [{**output, "data": values}]}
    text = json.dumps(body, separators=(",", ":")).encode()
    return web.Response(body=text, content_type="application/json")


def event(got: Got, samples: int = 50) -> bytes:
    """Return one event of a stream, as Triton writes it."""
    body = {"id": got.json["id"], "model_name": "voice_stream", "model_version": "1", "waveform": [0.5] * samples}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


async def streaming(request: web.Request) -> web.StreamResponse:
    """Return a response that events can be written to."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    return response


def text_input(text: str = "hello", **more: Any) -> Json:
    """Return the body of an `infer` request."""
    tensor = {"name": "target_text", "datatype": "BYTES", "shape": [1, 1], "data": [text]}
    return {"inputs": [tensor], **more}


@dataclass
class Web:
    """A door, its desk, its port, and a client's session."""

    desk: Desk
    door: HttpDoor
    port: int
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Return the status and the JSON of an answer, or its bytes if it is none."""
        async with self.session.request(method, path, **options) as answer:
            body = await answer.read()
            return answer.status, json.loads(body) if "json" in answer.content_type else body

    async def infer(self, body: Any, model: str = "voice", **options: Any) -> tuple[int, Any]:
        """Return both for an `infer` request; a body that is not bytes is sent as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.ask("POST", f"/v2/models/{model}/infer", data=data, **options)


@asynccontextmanager
async def house(folder: Path, triton: PlayedTriton, limits: Limits | None = None) -> AsyncIterator[Web]:
    """Yield a front door before this Triton."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", triton.handle)
    inner = web.AppRunner(app, handler_cancellation=True)
    await inner.setup()
    await web.UnixSite(inner, str(folder / "http")).start()
    desk = new_desk(folder, limits)
    door = HttpDoor(desk, ENTRIES, desk.limits, folder / "http")
    port = await door.start("127.0.0.1", 0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield Web(desk, door, port, session)
    await door.stop(0)
    await inner.cleanup()


def run(
    folder: Path,
    test: Callable[[Web], Awaitable[Any]],
    triton: PlayedTriton | None = None,
    limits: Limits | None = None,
) -> Any:
    """Return the result of a test in a house of its own."""

    async def body() -> Any:
        async with house(folder, triton or PlayedTriton(), limits) as place:
            return await test(place)

    return asyncio.run(body())
