"""The answers that are ready for one client: bounded, so that a client that does not read holds up only itself."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from tritone.door.refusal import Refused

T = TypeVar("T")


class Outbox(Generic[T]):
    """A queue between a model that speaks and a client that reads.

    Args:
        unread_bytes: bytes above which `pause` is called; `resume` is called below half of them.
        patience: seconds after which a client that takes nothing of what is ready is given up.
    """

    def __init__(
        self, unread_bytes: int, patience: float, pause: Callable[[], None], resume: Callable[[], None]
    ) -> None:
        self._limit, self._patience, self._pause, self._resume = unread_bytes, patience, pause, resume
        self._ready: deque[tuple[T, int]] = deque()
        self._more = asyncio.Event()
        self._bytes, self._closed, self._paused = 0, False, False
        self._since = time.monotonic()
        self._error: BaseException | None = None

    def put(self, item: T, size: int) -> None:
        """Add an answer of so many bytes."""
        if not self._ready:
            self._since = time.monotonic()
        self._ready.append((item, size))
        self._bytes += size
        if self._bytes > self._limit and not self._paused:
            self._paused = True
            self._pause()
        self._more.set()

    def close(self, error: BaseException | None = None) -> None:
        """Note that nothing follows; with an error, `get` raises it after the answers that are ready."""
        self._closed, self._error = True, error
        self._more.set()

    async def get(self) -> T | None:
        """Return the next answer, or None after the last; raise the error that closed the box."""
        while not self._ready:
            if self._closed:
                if self._error is not None:
                    raise self._error
                return None
            self._more.clear()
            await self._more.wait()
        item, size = self._ready.popleft()
        self._bytes -= size
        self._since = time.monotonic()
        if self._paused and self._bytes <= self._limit // 2:
            self._paused = False
            self._resume()
        return item

    def check_reader(self) -> None:
        """Raise Refused if the client has taken nothing for too long although something is ready."""
        if self._ready and time.monotonic() - self._since > self._patience:
            raise Refused("DEADLINE_EXCEEDED", f"nothing was read for {self._patience:g} s; the request is given up")
