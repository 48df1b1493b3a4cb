"""The front door's HTTP half: Triton's HTTP protocol, with the endpoints that clients need and no others.

Bodies are read within bounds and sent on whole: Triton 2.51 can be ended by a body in very many chunks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tritone.door.desk import Desk
from tritone.door.entries import Entries, Entry
from tritone.door.limits import Limits
from tritone.door.refusal import Refused
from tritone.door.web.connections import Connections
from tritone.door.web.forward import Answer, HttpForward
from tritone.door.web.json_body import Json, check_generate, check_infer, parse

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header that says where the JSON of a body ends and its binary data begins."""
BODY_SECONDS = 60.0
CLOSED = ("systemsharedmemory", "cudasharedmemory", "trace", "logging")
LARGE = 1 << 18
"""Bytes of JSON from which it is parsed in a thread, so that other requests do not wait for it."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpDoor:
    """Serves clients on the public HTTP port and passes their requests on.

    Args:
        socket: the file at which Triton's HTTP endpoint listens.
    """

    def __init__(self, desk: Desk, entries: Entries, limits: Limits, socket: Path) -> None:
        self._desk, self._entries, self._limits, self._socket = desk, entries, limits, socket
        self._forward: HttpForward | None = None
        self._runner: web.AppRunner | None = None
        self._connections: Connections | None = None
        self._listening: asyncio.Server | None = None

    async def start(self, host: str, port: int, ssl: Any = None) -> None:
        """Listen; raise OSError if the port is in use."""
        raise_file_limit()
        self._forward = HttpForward(self._desk, self._socket)
        app = web.Application(middlewares=[self._answer_refusals], client_max_size=self._limits.request_bytes)
        model = "/v2/models/{model}"
        app.router.add_get("/v2/health/live", self._live)
        app.router.add_get("/v2/health/ready", self._ready)
        app.router.add_get("/v2", self._plain)
        app.router.add_get("/v2/models/stats", self._all_stats)
        app.router.add_post("/v2/repository/index", self._index)
        for place in (model, f"{model}/versions/{{version:[0-9]{{1,9}}}}"):
            app.router.add_get(place, self._about_model)
            app.router.add_get(f"{place}/ready", self._model_ready)
            for name in ("config", "stats"):
                app.router.add_get(f"{place}/{name}", self._about_model)
            app.router.add_post(f"{place}/infer", self._infer)
            app.router.add_post(f"{place}/generate", self._generate)
            app.router.add_post(f"{place}/generate_stream", self._generate_stream)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, keepalive_timeout=self._limits.idle_seconds
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._connections = Connections(self._runner.server, self._limits.connections)
        self._listening = await asyncio.get_running_loop().create_server(
            self._connections, host, port, ssl=ssl, reuse_address=True
        )

    async def stop(self, grace: float) -> None:
        """Refuse new connections, wait up to `grace` seconds for running requests, then end them."""
        if self._runner is not None:
            if self._listening is not None and self._connections is not None:
                self._listening.close()
                self._connections.stop()
            if self._runner.server is not None:
                self._runner.server.pre_shutdown()
                await self._runner.server.shutdown(grace)
            await self._runner.cleanup()
        if self._forward is not None:
            await self._forward.close()

    @web.middleware
    async def _answer_refusals(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._connections is not None:
            self._connections.seen(request.protocol)
        try:
            return await handler(request)
        except Refused as refusal:
            headers = {"Retry-After": "1"} if refusal.http == 503 else {}
            return web.json_response({"error": str(refusal)}, status=refusal.http, headers=headers)
        except web.HTTPRequestEntityTooLarge:
            return web.json_response({"error": self._too_large()}, status=413)
        except web.HTTPException as error:
            return web.json_response({"error": self._unknown(request, error)}, status=error.status)

    def _too_large(self) -> str:
        return f"the body is larger than {self._limits.request_bytes} bytes, which is the limit"

    @staticmethod
    def _unknown(request: web.Request, error: web.HTTPException) -> str:
        if error.status == 404 and any(f"/{name}" in request.path for name in CLOSED):
            return f"{request.path[:200]} is closed to clients of this server"
        if "/repository/models/" in request.path:
            return "models cannot be loaded or unloaded by clients of this server"
        return f"{request.method} {request.path[:200]}: {error.reason}"

    async def _live(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _ready(self, _request: web.Request) -> web.Response:
        state = self._desk.health.state
        return web.Response() if state.ready else web.json_response({"error": state.reason}, status=503)

    async def _model_ready(self, request: web.Request) -> web.Response:
        entry = self._entries.find(request.match_info["model"])
        if not self._desk.health.concerns(entry.name):
            return web.Response()
        return web.json_response({"error": self._desk.health.state.reason}, status=503)

    async def _plain(self, request: web.Request) -> web.Response:
        return response(await self._triton.get(request.path))

    async def _about_model(self, request: web.Request) -> web.Response:
        entry = self._entries.find(request.match_info["model"])
        await self._desk.health.wait(entry.name, self._limits.mending_seconds)
        answer = await self._triton.get(request.path)
        if request.path.endswith("/config") and entry.parameters:
            config = json.loads(answer.body)
            further = {key: {"string_value": value} for key, value in entry.parameters.items()}
            return web.json_response({**config, "parameters": {**config.get("parameters", {}), **further}})
        return response(answer)

    async def _all_stats(self, request: web.Request) -> web.Response:
        answer = json.loads((await self._triton.get(request.path)).body)
        kept = [stats for stats in answer.get("model_stats", []) if stats.get("name") in self._entries]
        return web.json_response({"model_stats": kept})

    async def _index(self, _request: web.Request) -> web.Response:
        answer = json.loads((await self._triton.post("/v2/repository/index", b"{}", {})).body)
        return web.json_response([model for model in answer if model.get("name") in self._entries])

    async def _infer(self, request: web.Request) -> web.StreamResponse:
        entry = self._entries.find(request.match_info["model"])
        data = await self._body(request)
        header = request.headers.get(HEADER_LENGTH, "")
        if header and not (header.isdecimal() and int(header) <= len(data)):
            raise Refused("INVALID_ARGUMENT", f"{HEADER_LENGTH} is {header[:50]!r}; the body has {len(data)} bytes")
        end = int(header) if header else len(data)
        body = await self._parsed(data[:end])
        text = check_infer(body, data[end:], self._limits.request_bytes)
        answer = await self._triton.whole(
            entry, request.path, body, data[end:] if header else None, text, accepted(request)
        )
        return response(answer)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        entry, body, text = await self._generating(request)
        return response(await self._triton.whole(entry, request.path, body, None, text, accepted(request)))

    async def _generate_stream(self, request: web.Request) -> web.StreamResponse:
        entry, body, text = await self._generating(request)
        return await self._triton.stream(entry, request, body, text)

    async def _generating(self, request: web.Request) -> tuple[Entry, Json, int]:
        entry = self._entries.find(request.match_info["model"])
        body = await self._parsed(await self._body(request))
        return entry, body, check_generate(body)

    @property
    def _triton(self) -> HttpForward:
        assert self._forward is not None
        return self._forward

    async def _parsed(self, data: bytes) -> Json:
        return await asyncio.to_thread(parse, data) if len(data) > LARGE else parse(data)

    async def _body(self, request: web.Request) -> bytes:
        """Return the body, which aiohttp has unpacked; raise Refused for one that is too large or too slow."""
        most = self._limits.request_bytes
        encoding = request.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("identity", "gzip", "deflate"):
            raise Refused("INVALID_ARGUMENT", f"the body's encoding is {encoding[:50]!r}; known are gzip and deflate")
        if (request.content_length or 0) > most:
            raise Refused("RESOURCE_EXHAUSTED", self._too_large())
        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.content.iter_any():
                    size += len(part)
                    if size > most:
                        raise Refused("RESOURCE_EXHAUSTED", self._too_large())
                    parts.append(part)
        except TimeoutError:
            raise Refused("DEADLINE_EXCEEDED", f"the body did not arrive within {BODY_SECONDS:g} s") from None
        except (aiohttp.ClientPayloadError, zlib.error, web.RequestPayloadError) as error:
            raise Refused("INVALID_ARGUMENT", f"the body cannot be read: {error}") from None
        return b"".join(parts)


class MetricsPage:
    """The metrics port: Triton's own page, and the front door's.

    Args:
        socket: the file at which Triton's metrics page is served.
    """

    def __init__(self, desk: Desk, socket: Path) -> None:
        self._desk, self._socket = desk, socket
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen; raise OSError if the port is in use."""
        app = web.Application()
        app.router.add_get("/metrics", self._page)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def stop(self, grace: float) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _page(self, _request: web.Request) -> web.Response:
        self._desk.tick()
        triton = b""
        with contextlib.suppress(aiohttp.ClientError, OSError, asyncio.TimeoutError):
            connector = aiohttp.UnixConnector(str(self._socket))
            async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(5)) as session:
                async with session.get("http://triton/metrics") as answer:
                    triton = await answer.read()
        return web.Response(body=triton + self._desk.metrics.text(), content_type="text/plain", charset="utf-8")


def response(answer: Answer) -> web.Response:
    """Return Triton's answer as the door's."""
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


def accepted(request: web.Request) -> dict[str, str]:
    """Return the header that says in which encodings a client takes its answer."""
    encodings = request.headers.get("Accept-Encoding")
    return {"Accept-Encoding": encodings[:200]} if encodings else {}


def raise_file_limit() -> None:
    """Let this process, and those it starts, open as many files as they are allowed to."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
