"""The metrics port: Triton's own page, and the front door's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
from aiohttp import web

from tritone.door.desk import Desk
from tritone.door.web.connections import Connections, Handler

CONNECTIONS = 64
SECONDS = 5.0
"""Longest wait for Triton's page, which is left out while Triton is started again."""


class MetricsPage:
    """Serves both pages as one, at `/metrics`.

    Args:
        socket: the file at which Triton's metrics page is served.
    """

    def __init__(self, desk: Desk, socket: Path) -> None:
        self._desk, self._socket = desk, socket
        self._runner: web.AppRunner | None = None
        self._connections: Connections | None = None
        self._listening: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen and return the port; raise OSError if it is in use."""
        app = web.Application(middlewares=[self._note])
        app.router.add_get("/metrics", self._page)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        assert self._runner.server is not None
        self._connections = Connections(self._runner.server, CONNECTIONS, self._desk.limits.patience)
        self._listening = await asyncio.get_running_loop().create_server(
            self._connections, host, port, reuse_address=True
        )
        return int(self._listening.sockets[0].getsockname()[1])

    async def stop(self, grace: float) -> None:
        """Close the port."""
        if self._listening is not None and self._connections is not None:
            self._listening.close()
            self._connections.stop()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._connections is not None:
            self._connections.asked(request.protocol)
        return await handler(request)

    async def _page(self, _request: web.Request) -> web.Response:
        self._desk.tick()
        page = await self._tritons() + self._desk.metrics.text()
        return web.Response(body=page, content_type="text/plain", charset="utf-8")

    async def _tritons(self) -> bytes:
        try:
            connector = aiohttp.UnixConnector(str(self._socket))
            async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(SECONDS)) as session:
                async with session.get("http://triton/metrics") as answer:
                    return await answer.read() if answer.status == 200 else b""
        except (aiohttp.ClientError, OSError, TimeoutError):
            return b""
