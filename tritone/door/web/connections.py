"""The connections of the HTTP port: a bounded number, and none that sends nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

LOOK = 5.0
"""Seconds between two looks at idle connections."""
HEAD_SECONDS = 20.0
"""Seconds in which a new connection has to send the head of its first request."""


class Connections:
    """Makes the protocol of each connection; beyond the limit, one that closes at once.

    Args:
        make: aiohttp's server, which makes a protocol for a connection.
        most: connections open at a time.
    """

    def __init__(self, make: Callable[[], Any], most: int) -> None:
        self._make, self._most = make, most
        self._since: dict[Any, float] = {}
        self._looking: asyncio.Task[None] | None = None

    def __call__(self) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
        self._forget()
        if len(self._since) >= self._most:
            return Closed()
        protocol = self._make()
        self._since[protocol] = time.monotonic()
        return protocol

    def seen(self, protocol: Any) -> None:
        """Note that a request has come on a connection; from then on aiohttp closes it when it is idle."""
        self._since[protocol] = float("inf")

    def stop(self) -> None:
        """Look at connections no more."""
        if self._looking is not None:
            self._looking.cancel()

    def _forget(self) -> None:
        """Leave out connections that have ended."""
        now = time.monotonic()
        self._since = {
            protocol: since
            for protocol, since in self._since.items()
            if protocol.transport is not None or now - since < 1.0
        }

    async def _look(self) -> None:
        """Close connections whose first request does not come."""
        while True:
            await asyncio.sleep(LOOK)
            self._forget()
            now = time.monotonic()
            for protocol, since in self._since.items():
                if now - since > HEAD_SECONDS and protocol.transport is not None:
                    protocol.transport.close()


class Closed(asyncio.Protocol):
    """A connection beyond the limit."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()
