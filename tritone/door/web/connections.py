"""The connections of the HTTP port: a bounded number, and none that sends or reads nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web, web_response

web_response.SERVER_SOFTWARE = "tritone"
"""The header `Server` of every answer, also of those that aiohttp makes itself; its own names versions."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LOOK = 5.0
"""Seconds between two looks at all connections."""
HEAD_SECONDS = 20.0
"""Seconds in which a new connection has to send the head of its first request."""


@dataclass
class Seen:
    """The history of a connection.

    Args:
        since: when it began.
        asked: whether a request has come on it; from then on aiohttp closes it when it is idle.
        unread: bytes that its client had not taken at the last look.
        stuck: since when these have been as many.
    """

    since: float
    asked: bool = False
    unread: int = 0
    stuck: float = 0.0


class Connections:
    """Makes the protocol of each connection; beyond the limit, one that closes at once.

    Args:
        server: aiohttp's server, which makes a protocol for a connection.
        most: connections open at a time.
        patience: seconds after which a client that takes nothing of its answer is given up.
        head: seconds in which a new connection has to send the head of its first request.
        look: seconds between two looks.
    """

    def __init__(
        self, server: web.Server, most: int, patience: float, head: float = HEAD_SECONDS, look: float = LOOK
    ) -> None:
        self._server, self._most, self._patience, self._head, self._look = server, most, patience, head, look
        self._seen: dict[Any, Seen] = {}
        self._looking: asyncio.Task[None] | None = None

    def __call__(self) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._keep_looking())
        return Closed() if len(self._server.connections) >= self._most else self._server()

    def asked(self, protocol: Any) -> None:
        """Note that a request has come on a connection."""
        self._seen.setdefault(protocol, Seen(time.monotonic())).asked = True

    def stop(self) -> None:
        """Look at connections no more."""
        if self._looking is not None:
            self._looking.cancel()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._look)
            now = time.monotonic()
            open_ones = self._server.connections
            self._seen = {protocol: self._seen.get(protocol, Seen(now)) for protocol in open_ones}
            for protocol, seen in self._seen.items():
                if protocol.transport is not None and self._is_over(protocol.transport, seen, now):
                    protocol.transport.abort()

    def _is_over(self, transport: asyncio.WriteTransport, seen: Seen, now: float) -> bool:
        """Return True for a connection whose first request does not come, or whose answer is not read."""
        unread = transport.get_write_buffer_size()
        if not unread or unread != seen.unread:
            seen.unread, seen.stuck = unread, now
        return (not seen.asked and now - seen.since > self._head) or (now - seen.stuck > self._patience and unread > 0)


class Closed(asyncio.Protocol):
    """A connection beyond the limit."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()
