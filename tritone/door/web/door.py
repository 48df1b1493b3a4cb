"""The front door's HTTP half: Triton's HTTP protocol, with the endpoints that clients need and no others.

Bodies are read within bounds and sent on whole: Triton 2.51 can be ended by a body in very many chunks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
from pathlib import Path
from typing import Any

from aiohttp import web

from tritone.door.desk import Desk
from tritone.door.entries import Entries, Entry
from tritone.door.limits import Limits
from tritone.door.refusal import Refused
from tritone.door.upstream import ModelGone
from tritone.door.web.body import BROKEN, Bodies
from tritone.door.web.checks import Checked, check_generate, check_infer
from tritone.door.web.connections import Connections, Handler
from tritone.door.web.forward import HEADER_LENGTH, Answer, Forward
from tritone.door.web.stream import Events

CLOSED = re.compile(
    r"/v2/((system|cuda)sharedmemory|trace|logging|repository/models|models/[^/]+(/versions/[^/]+)?/trace)(/|$)"
)
"""Triton's endpoints that change the server or reach into its memory."""

LINGERING = 2.0
"""Seconds in which what is left of a refused body is thrown away, so that its client reads the answer."""


class HttpDoor:
    """Serves clients on the public HTTP port and passes their requests on.

    Args:
        socket: the file at which Triton's HTTP endpoint listens.
    """

    def __init__(self, desk: Desk, entries: Entries, limits: Limits, socket: Path) -> None:
        self._desk, self._entries, self._limits, self._socket = desk, entries, limits, socket
        self._bodies = Bodies(limits.request_bytes)
        self._forward: Forward | None = None
        self._runner: web.AppRunner | None = None
        self._connections: Connections | None = None
        self._listening: asyncio.Server | None = None

    async def start(self, host: str, port: int, ssl: Any = None) -> int:
        """Listen and return the port; raise OSError if it is in use."""
        raise_file_limit()
        self._forward = Forward(self._desk, self._socket)
        self._runner = web.AppRunner(
            self._application(),
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=self._limits.idle_seconds,
            lingering_time=LINGERING,
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._connections = Connections(self._runner.server, self._limits.connections, self._limits.patience)
        self._listening = await asyncio.get_running_loop().create_server(
            self._connections, host, port, ssl=ssl, reuse_address=True
        )
        return int(self._listening.sockets[0].getsockname()[1])

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._middle])
        app.router.add_get("/v2", self._plain)
        app.router.add_get("/v2/health/live", self._live)
        app.router.add_get("/v2/health/ready", self._ready)
        app.router.add_get("/v2/models/stats", self._all_stats)
        app.router.add_post("/v2/repository/index", self._index)
        model = "/v2/models/{model}"
        for place in (model, f"{model}/versions/{{version:[0-9]{{1,9}}}}"):
            app.router.add_get(place, self._about_model)
            app.router.add_get(f"{place}/ready", self._model_ready)
            for name in ("config", "stats"):
                app.router.add_get(f"{place}/{name}", self._about_model)
            app.router.add_post(f"{place}/infer", self._infer)
            app.router.add_post(f"{place}/generate", self._generate)
            app.router.add_post(f"{place}/generate_stream", self._generate_stream)
        return app

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
        self._bodies.close()

    @web.middleware
    async def _middle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._connections is not None:
            self._connections.asked(request.protocol)
        answer = await self._answer(request, handler)
        if BROKEN in request:
            answer.force_close()
        return answer

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if CLOSED.match(request.path):
                raise Refused("PERMISSION_DENIED", f"{request.path[:200]} is closed to clients of this server")
            return await handler(request)
        except ModelGone:
            return refusal(503, "the model is being loaded again; try again")
        except Refused as refused:
            return refusal(refused.http, str(refused))
        except web.HTTPException as error:
            said = (
                error.reason if error.status in (408, 415) else f"{request.method} {request.path[:200]}: {error.reason}"
            )
            return refusal(error.status, said)

    async def _live(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _ready(self, _request: web.Request) -> web.Response:
        state = self._desk.health.state
        return web.Response() if state.ready else refusal(503, state.reason)

    async def _model_ready(self, request: web.Request) -> web.Response:
        entry = self._entry(request)
        if not self._desk.health.concerns(entry.name):
            return response(await self._triton.get(place_of(request, entry)), request)
        return refusal(503, self._desk.health.state.reason)

    async def _plain(self, request: web.Request) -> web.Response:
        return response(await self._triton.get(request.path), request)

    async def _about_model(self, request: web.Request) -> web.Response:
        entry = self._entry(request)
        await self._desk.health.wait(entry.name, self._limits.mending_seconds)
        answer = await self._triton.get(place_of(request, entry))
        if request.path.endswith("/config") and entry.parameters:
            config = json.loads(answer.body)
            further = {key: {"string_value": value} for key, value in entry.parameters.items()}
            return web.json_response({**config, "parameters": {**config.get("parameters", {}), **further}})
        return response(answer, request)

    async def _all_stats(self, request: web.Request) -> web.Response:
        answer = json.loads((await self._triton.get(request.path)).body)
        kept = [stats for stats in answer.get("model_stats", []) if stats.get("name") in self._entries]
        return web.json_response({"model_stats": kept})

    async def _index(self, _request: web.Request) -> web.Response:
        answer = json.loads((await self._triton.post("/v2/repository/index", b"{}", {})).body)
        return web.json_response([model for model in answer if model.get("name") in self._entries])

    async def _infer(self, request: web.Request) -> web.StreamResponse:
        entry = self._entry(request)
        async with self._bodies.read(request) as data:
            end = json_end(request, data)
            most = self._limits.request_bytes
            checked = await self._bodies.check(data, lambda data: check_infer(data, end, most))
        return response(await self._triton.whole(entry, place_of(request, entry), checked), request)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        entry = self._entry(request)
        if entry.kind == "stream":
            raise Refused("INVALID_ARGUMENT", f"{entry.name} answers in chunks; ask its generate_stream")
        checked = await self._generating(request, entry)
        return response(await self._triton.whole(entry, place_of(request, entry), checked), request)

    async def _generate_stream(self, request: web.Request) -> web.StreamResponse:
        # Under the name of a whole utterance, too: a client that asks for a stream awaits chunks.
        entry = self._entries.streaming(self._entry(request))
        checked = await self._generating(request, entry)
        return await Events(self._triton, entry, place_of(request, entry), checked).run(request)

    async def _generating(self, request: web.Request, entry: Entry) -> Checked:
        async with self._bodies.read(request) as data:
            return await self._bodies.check(data, lambda data: check_generate(data, entry.inputs))

    def _entry(self, request: web.Request) -> Entry:
        return self._entries.find(request.match_info["model"][:200])

    @property
    def _triton(self) -> Forward:
        assert self._forward is not None
        return self._forward


def place_of(request: web.Request, entry: Entry) -> str:
    """Return the path of a request with the name that Triton knows the entry by."""
    return request.path.replace(f"/models/{request.match_info['model']}", f"/models/{entry.name}", 1)


def json_end(request: web.Request, data: bytes) -> int | None:
    """Return the end of the JSON in a body with binary data behind it; None for a body without such."""
    header = request.headers.get(HEADER_LENGTH)
    if header is None:
        return None
    if not (header.isascii() and header.isdecimal() and len(header) < 12 and int(header) <= len(data)):
        raise Refused("INVALID_ARGUMENT", f"{HEADER_LENGTH} is {header[:50]!r}; the body has {len(data)} bytes")
    return int(header)


def refusal(status: int, sentence: str) -> web.Response:
    """Return a refusal as clients of Triton read it."""
    headers = {"Retry-After": "1"} if status == 503 else {}
    return web.json_response({"error": sentence}, status=status, headers=headers)


def response(answer: Answer, request: web.Request) -> web.Response:
    """Return Triton's answer as the door's, packed in the way that the client takes it."""
    made = web.Response(body=answer.body, headers=answer.headers)
    accepted = request.headers.get("Accept-Encoding", "").lower().replace(" ", "").split(",")
    for coding in (web.ContentCoding.gzip, web.ContentCoding.deflate):
        if answer.body and coding.value in accepted:
            made.enable_compression(coding)
            break
    return made


def raise_file_limit() -> None:
    """Let this process, and those it starts, open as many files as they are allowed to."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
