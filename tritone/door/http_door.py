"""Placeholder until the HTTP half is merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiohttp import web


class HttpDoor:
    def __init__(self, desk: Any, entries: Any, limits: Any, socket: Path) -> None:
        self._desk = desk
        self._runner: Any = None

    async def start(self, host: str, port: int, ssl: Any = None) -> None:
        async def ready(request: Any) -> Any:
            return web.Response(status=200 if self._desk.health.state.ready else 503)

        app = web.Application()
        app.router.add_get("/v2/health/ready", ready)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def stop(self, grace: float) -> None:
        await self._runner.cleanup()


class MetricsPage(HttpDoor):
    def __init__(self, desk: Any, socket: Path) -> None:
        self._desk = desk

    async def start(self, host: str, port: int, ssl: Any = None) -> None:
        async def page(request: Any) -> Any:
            return web.Response(body=self._desk.metrics.text())

        app = web.Application()
        app.router.add_get("/metrics", page)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
