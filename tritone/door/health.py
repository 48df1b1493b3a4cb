"""The state of a server as its supervisor knows it: ready, or being mended and why. Shared between threads."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass

from tritone.door.refusal import Refused

ALL = frozenset({"*"})
"""The models concerned when all of them are."""
POLL = 0.02


@dataclass(frozen=True)
class State:
    """One state of the server.

    Args:
        ready: whether every model answers.
        reason: what is wrong, a sentence; "" if ready.
        models: the models concerned; ALL for all.
        since: monotonic seconds of the last change.
    """

    ready: bool
    reason: str
    models: frozenset[str]
    since: float


class Health:
    """The readiness that the front door reports; the supervisor writes it, the door reads it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = State(False, "the models are being loaded", ALL, time.monotonic())

    @property
    def state(self) -> State:
        """The present state."""
        with self._lock:
            return self._state

    def set_ready(self) -> None:
        """Note that every model answers."""
        self._set(State(True, "", frozenset(), time.monotonic()))

    def set_unready(self, reason: str, models: frozenset[str] = ALL) -> None:
        """Note that these models do not answer, and why."""
        self._set(State(False, reason, models, time.monotonic()))

    def _set(self, state: State) -> None:
        with self._lock:
            self._state = state

    def concerns(self, model: str) -> bool:
        """Return True if requests for the model have to wait."""
        state = self.state
        return not state.ready and (state.models == ALL or model in state.models)

    async def wait(self, model: str, seconds: float) -> None:
        """Return as soon as the model answers; after `seconds` raise Refused with the reason."""
        deadline = time.monotonic() + seconds
        while self.concerns(model):
            if time.monotonic() >= deadline:
                raise Refused("UNAVAILABLE", f"{model} is not ready: {self.state.reason}; try again later")
            await asyncio.sleep(POLL)
