"""The front door as a whole: both protocols and the metrics page in one thread, and what the supervisor tells it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritone.door.desk import Desk
from tritone.door.entries import Entries
from tritone.door.health import ALL, Health
from tritone.door.limits import Limits
from tritone.door.metrics import Metrics
from tritone.door.pace import Pace
from tritone.door.rpc.door import GrpcDoor
from tritone.door.tls import Tls
from tritone.door.web.door import HttpDoor
from tritone.door.web.metrics_page import MetricsPage
from tritone.errors import EnvironmentProblem
from tritone.server.flags import Flags
from tritone.supervisor.locate import Ports
from tritone.supervisor.memory import Budget

TICK = 1.0


@dataclass(frozen=True)
class Sockets:
    """The files at which Triton listens."""

    http: Path
    grpc: str
    metrics: Path


class Door:
    """Listens on the public ports from `start` until `stop`.

    Args:
        needs: the entries whose answers need a model, by that model.
        budget: decides whether a request fits into memory.
    """

    def __init__(
        self,
        entries: Entries,
        needs: Mapping[str, frozenset[str]],
        sockets: Sockets,
        flags: Flags,
        limits: Limits | None = None,
        budget: Budget | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.entries, self.limits, self.health, self.metrics = entries, limits or Limits(), Health(), Metrics()
        self._needs, self._sockets, self._flags, self._tls = needs, sockets, flags, tls or Tls()
        self.budget = budget or Budget()
        self.pace = Pace(fixed=self.limits.streams)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="door", daemon=True)
        self._desk: Desk | None = None
        self._parts: list[Any] = []
        self._ticking: asyncio.Task[None] | None = None
        self._idle_bytes = 0

    def start(self, host: str, ports: Ports) -> None:
        """Begin to listen; raise EnvironmentProblem if a port cannot be used."""
        self._thread.start()
        try:
            self._run(self._open(host, ports))
        except OSError as error:
            self.stop(0)
            raise EnvironmentProblem(f"the server cannot listen on {host}: {error}") from error

    def stop(self, grace: float) -> None:
        """Refuse new requests, wait up to `grace` seconds for those that run, and close the ports."""
        if not self._thread.is_alive():
            return
        self._run(self._close(grace))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self, host: str, ports: Ports) -> None:
        self._desk = desk = Desk(
            self.limits, self.health, self.metrics, self._flags, self.pace, memory=self.budget.problem
        )
        grpc_door = GrpcDoor(desk, self.entries, self._sockets.grpc)
        http_door = HttpDoor(desk, self.entries, self.limits, self._sockets.http)
        page = MetricsPage(desk, self._sockets.metrics)
        self._parts = [grpc_door, http_door, page]
        await http_door.start(host, ports.http, self._tls.context())
        await page.start(host, ports.metrics)
        address = f"[{host}]" if ":" in host else host
        await grpc_door.start(f"{address}:{ports.grpc}", self._tls.credentials())
        self._ticking = asyncio.create_task(self._tick(desk))

    async def _close(self, grace: float) -> None:
        if self._desk is not None:
            self._desk.draining = True
        if self._ticking is not None:
            self._ticking.cancel()
        for part in self._parts:
            await part.stop(grace)
            grace = min(grace, 1.0)

    @staticmethod
    async def _tick(desk: Desk) -> None:
        while True:
            await asyncio.sleep(TICK)
            desk.tick()

    # What follows is called from the supervisor's thread.

    def unready(self, reason: str, model: str) -> None:
        """Hold requests that need the model ("" for all), and give up those that its process was answering."""
        models = ALL if not model else self._needs.get(model, frozenset()) | {model}
        self.health.set_unready(reason, models)
        # A whole utterance is answered by Triton with an error; a stream would wait for ever.
        lost = ALL if not model else frozenset({model})
        self._later(lambda desk: desk.lose(reason, lost))

    def ready(self) -> None:
        """Let requests pass again."""
        self._later(lambda desk: setattr(desk, "draining", False))
        self.health.set_ready()

    def idle(self, model: str) -> bool:
        """Return True if no request inside needs the model."""
        models = self._needs.get(model, frozenset()) | {model}
        return not any(ticket.entry.name in models for ticket in (self._desk.tickets if self._desk else ()))

    def restarted(self, model: str, kind: str) -> None:
        """Count a model that was loaded again, or a server ("" as the model)."""
        self._later(lambda desk: desk.metrics.restarts.labels(model or "all", kind).inc())

    def memory(self, bytes_of: dict[str, int]) -> None:
        """Publish the resident memory of each process, and learn from it what a stream costs."""
        for process, size in bytes_of.items():
            self.metrics.memory.labels(process).set(size)
        streams = sum(size for process, size in bytes_of.items() if process.endswith("_stream"))
        self._idle_bytes = self._idle_bytes or streams
        count = self._desk.count("stream") if self._desk else 0
        self.budget.learn(self._idle_bytes, streams, count)

    def stalled(self, seconds: float) -> bool:
        """Return True if a request that is not paused has waited so long without an answer."""
        now = time.monotonic()
        tickets = self._desk.tickets if self._desk else ()
        return any(
            not (ticket.paused or ticket.piece or ticket.arriving) and now - ticket.last > seconds for ticket in tickets
        )

    def drain(self) -> bool:
        """Admit nothing more, and return True once no request is inside."""
        self._later(lambda desk: setattr(desk, "draining", True))
        return not (self._desk and self._desk.tickets)

    def _later(self, act: Callable[[Desk], None]) -> None:
        desk = self._desk
        if desk is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(act, desk)
