"""The bodies of requests: read and unpacked within bounds, for each request and for all of them together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from tritone.door.refusal import Refused, busy

SECONDS = 60.0
"""Time in which a body has to arrive."""
SMALL = 1 << 16
"""Bytes that every request may bring, however much the others hold."""
TOGETHER = 16
"""Bodies of the largest size that are held at a time."""
LARGE = 1 << 15
"""Bytes from which a body is checked in a thread, so that other requests do not wait for it."""
BROKEN = web.RequestKey("broken", bool)
"""Set for a request behind which nothing can be read on its connection."""
ENCODINGS = ("identity", "gzip", "deflate")
T = TypeVar("T")


class Bodies:
    """Reads and checks the bodies of one port.

    Args:
        most: bytes of the largest body, unpacked.
        seconds: time in which a body has to arrive.
    """

    def __init__(self, most: int, seconds: float = SECONDS) -> None:
        self._most, self._seconds = most, seconds
        self._held = 0
        # One thread: parsing takes up to thirty times the memory of a body.
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="bodies")

    @property
    def held(self) -> int:
        """Bytes of all bodies that are being read or checked."""
        return self._held

    def close(self) -> None:
        """End the thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def read(self, request: web.Request) -> AsyncIterator[bytes]:
        """Yield the body; raise Refused for one that is too large, too slow, or packed in an unknown way."""
        encoding = request.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ENCODINGS:
            raise web.HTTPUnsupportedMediaType(
                reason=f"the body's encoding is {encoding[:50]!r}; known are gzip and deflate"
            )
        if (request.content_length or 0) > self._most:
            raise self._too_large()
        body = bytearray()
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._all(request, body)
            except TimeoutError:
                problem = f"the body did not arrive within {self._seconds:g} s"
                raise web.HTTPRequestTimeout(reason=problem) from None
            yield bytes(body)
        finally:
            self._held -= len(body)

    async def _all(self, request: web.Request, body: bytearray) -> None:
        try:
            async for part in request.content.iter_any():
                if len(body) + len(part) > self._most:
                    raise self._too_large()
                if len(body) + len(part) > SMALL and self._held + len(part) > TOGETHER * self._most:
                    raise busy("other requests with large bodies are being read")
                body += part
                self._held += len(part)
        except (web.RequestPayloadError, BadHttpMessage) as error:
            # aiohttp would read the rest before the next request, and fail again.
            request.content.feed_eof()
            request[BROKEN] = True
            raise Refused("INVALID_ARGUMENT", f"the body cannot be read: {error}") from None

    async def check(self, data: bytes, check: Callable[[bytes], T]) -> T:
        """Return the result of `check` on a body."""
        if len(data) <= LARGE:
            return check(data)
        return await asyncio.get_running_loop().run_in_executor(self._threads, check, data)

    def _too_large(self) -> Refused:
        return Refused("RESOURCE_EXHAUSTED", f"the body is larger than {self._most} bytes, which is the limit")
