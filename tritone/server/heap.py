"""Memory that requests have used and freed: it is given back to the system instead of kept by the process.

The C library keeps what was freed, in up to eight heaps for each core: after sixteen streams at once some 500 MB.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable

PAUSE = 20.0
"""Seconds that freed memory is kept for the next requests; to fetch it anew each time would cost 5 % more CPU time."""
M_ARENA_MAX = -8  # mallopt's number for the most heaps


def give_back() -> None:
    """Give freed memory back to the system; a C library that cannot is left alone."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def limit_heaps() -> None:
    """Let the C library have one heap for each core, at least two, unless MALLOC_ARENA_MAX says otherwise."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(M_ARENA_MAX, max(2, os.cpu_count() or 1))


class Heap:
    """Gives memory back `pause` seconds after a request has ended, once for all that end meanwhile."""

    def __init__(self, pause: float = PAUSE, give: Callable[[], None] = give_back) -> None:
        self._pause, self._give = pause, give
        self._lock = threading.Lock()
        self._waiting: threading.Timer | None = None

    def ended(self) -> None:
        """Note that a request has ended."""
        with self._lock:
            if self._waiting is None:
                self._waiting = threading.Timer(self._pause, self._run)
                self._waiting.daemon = True
                self._waiting.start()

    def close(self) -> None:
        """Give nothing back any more."""
        with self._lock:
            if self._waiting is not None:
                self._waiting.cancel()

    def _run(self) -> None:
        with self._lock:
            self._waiting = None
        self._give()
