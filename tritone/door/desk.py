"""Admission: each request gets a ticket, or is refused at once. A ticket's end frees its place.

Streams are admitted as long as the machine carries them in real time, whole utterances into a bounded line.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tritone.door.entries import Entry
from tritone.door.health import ALL, Health
from tritone.door.limits import Limits
from tritone.door.metrics import Metrics
from tritone.door.pace import Pace
from tritone.door.refusal import Refused, busy
from tritone.server.flags import Flags

SHARE_OF_WHOLE = 2
"""Whole utterances are computed by few processes, so that more of them take no larger share of the machine."""


@dataclass
class Ticket:
    """A request that was let in.

    Args:
        id: the id it has inside Triton.
        piece: whether it brings a further piece of a text that another request began.
        arriving: whether its text arrives in pieces, so that it may wait for its client.
        lost: set to the reason when the model's process has died; the request will never be answered.
    """

    id: str
    entry: Entry
    lost: asyncio.Future[str]
    piece: bool = False
    arriving: bool = False
    paused: bool = False
    since: float = field(default_factory=time.monotonic)
    first: float = 0.0
    last: float = field(default_factory=time.monotonic)


class Desk:
    """The tickets of one server; used in the front door's event loop only.

    Args:
        memory: returns why there is too little memory for one more request, or "".
    """

    def __init__(
        self,
        limits: Limits,
        health: Health,
        metrics: Metrics,
        flags: Flags,
        pace: Pace,
        memory: Callable[[], str] = lambda: "",
    ) -> None:
        self.limits, self.health, self.metrics, self.flags, self.pace = limits, health, metrics, flags, pace
        self._memory = memory
        self._tickets: dict[str, Ticket] = {}
        self._names = itertools.count()
        self._prefix = secrets.token_hex(4)
        self._places = asyncio.Semaphore(limits.whole)
        self._long = asyncio.Semaphore(1)
        self._waiting = 0
        self.draining = False

    @property
    def tickets(self) -> Iterable[Ticket]:
        """The tickets of all requests inside Triton."""
        return tuple(self._tickets.values())

    def count(self, kind: str, paused: bool | None = None) -> int:
        """Return the number of requests of a kind inside Triton, with later pieces of a text left out."""
        return sum(
            ticket.entry.kind == kind and not ticket.piece and paused in (None, ticket.paused)
            for ticket in self._tickets.values()
        )

    @asynccontextmanager
    async def admit(self, entry: Entry, text: int = 0, piece: bool = False) -> AsyncIterator[Ticket]:
        """Yield the ticket of a request; raise Refused if it cannot be carried.

        Leave the context when the request has ended inside Triton, and no sooner.

        Args:
            text: bytes of its text.
            piece: whether it brings a further piece of a text whose first request is inside already.
        """
        lines = [] if entry.kind == "stream" else [*([self._long] * (text > self.limits.long_text)), self._places]
        try:
            await self.health.wait(entry.name, self.limits.mending_seconds)
            if not piece:
                self._check_room(entry)
            await self._take(lines)
        except Refused as refusal:
            self.metrics.refused.labels(entry.name, refusal.status).inc()
            raise
        ticket = self._open(entry, piece)
        try:
            yield ticket
        finally:
            self._close(ticket)
            for line in lines:
                line.release()

    def _check_room(self, entry: Entry) -> None:
        """Raise Refused if the machine cannot carry one more request of this kind."""
        problem = "the server is about to be started again" if self.draining else self._memory()
        if problem:
            raise busy(problem)
        if entry.kind != "stream":
            return
        speaking, most = self.count("stream", paused=False) + self.others, self.pace.streams
        if speaking >= most:
            raise busy(f"{speaking} requests are being spoken, which is as many as this machine carries in real time")
        if self.count("stream") >= self.limits.open_streams:
            raise busy(f"{self.limits.open_streams} streams are open, which is the limit")

    @property
    def others(self) -> int:
        """Whole utterances being computed, as many as take a share of the machine."""
        return min(SHARE_OF_WHOLE, self.count("whole"))

    async def _take(self, lines: list[asyncio.Semaphore]) -> None:
        """Take a place in every line; raise Refused if too many wait already, or after a long wait."""
        if any(line.locked() for line in lines) and self._waiting >= self.limits.waiting:
            raise busy(f"{self._waiting} requests are waiting, which is the limit")
        taken: list[asyncio.Semaphore] = []
        self._count_waiting(1)
        try:
            async with asyncio.timeout(self.limits.waiting_seconds):
                for line in lines:
                    await line.acquire()
                    taken.append(line)
        except BaseException as error:
            for line in taken:
                line.release()
            if isinstance(error, TimeoutError):
                raise busy(f"no place became free within {self.limits.waiting_seconds:g} s") from None
            raise
        finally:
            self._count_waiting(-1)

    def _count_waiting(self, change: int) -> None:
        self._waiting += change
        self.metrics.waiting.set(self._waiting)

    def _open(self, entry: Entry, piece: bool) -> Ticket:
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        ticket = Ticket(f"{self._prefix}-{next(self._names)}", entry, lost, piece)
        self._tickets[ticket.id] = ticket
        if not piece:
            self.metrics.requests.labels(entry.name).inc()
            self.metrics.active.labels(entry.name).inc()
        return ticket

    def _close(self, ticket: Ticket) -> None:
        self.resume(ticket)
        del self._tickets[ticket.id]
        self.flags.clear(ticket.id)
        ticket.lost.cancel()
        if not ticket.piece:
            self.metrics.active.labels(ticket.entry.name).dec()
        self.tick()

    def cancel(self, ticket: Ticket) -> None:
        """Tell the models that the request's client has left; the ticket stays until they have ended."""
        self.flags.mark_cancelled(ticket.id)
        self.metrics.cancelled.labels(ticket.entry.name).inc()

    def pause(self, ticket: Ticket) -> None:
        """Tell the model to speak no further for now, as the client does not read."""
        if not ticket.paused:
            ticket.paused = True
            self.flags.mark_paused(ticket.id)
            self.metrics.paused.inc()

    def resume(self, ticket: Ticket) -> None:
        """Let a paused stream continue."""
        if ticket.paused:
            ticket.paused = False
            self.flags.unmark_paused(ticket.id)
            self.metrics.paused.dec()

    def spoke(self, ticket: Ticket, samples: int) -> None:
        """Count the samples of an answer, and the time to the first of them."""
        ticket.last = time.monotonic()
        if not samples or not ticket.entry.sample_rate:
            return
        seconds = samples / ticket.entry.sample_rate
        self.metrics.speech.labels(ticket.entry.name).inc(seconds)
        if ticket.entry.kind == "stream":
            if not ticket.first:
                ticket.first = ticket.last
                self.metrics.first_sound.labels(ticket.entry.name).observe(ticket.first - ticket.since)
            self.pace.made(seconds)

    def lose(self, reason: str, models: frozenset[str] = ALL) -> None:
        """Give up the requests to these entries, whose model's process has died."""
        for ticket in self.tickets:
            if (models == ALL or ticket.entry.name in models) and not ticket.lost.done():
                ticket.lost.set_result(reason)
                self.metrics.failed.labels(ticket.entry.name).inc()

    def tick(self) -> None:
        """Bring measured speed and its metrics up to date; called every second and at the end of each request."""
        self.pace.tick(self.count("stream", paused=False), self.others)
        self.metrics.speed.set(self.pace.speed)
        self.metrics.streams.set(self.pace.streams)
        self.metrics.ready.set(self.health.state.ready)
