"""The way of a request through Triton over either protocol: sent again after a reload, given up with its model.

A request that was let in goes on although its client may have left, so that its place is free when its work has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tritone.door.desk import Desk, Ticket
from tritone.door.entries import Entry
from tritone.door.refusal import Refused
from tritone.door.upstream import ModelGone

T = TypeVar("T")
TRIES = 3
"""Times a request is sent that met a model while it was being loaded again."""
_running: set[asyncio.Task[Any]] = set()
"""Requests whose clients may have left; a task without a reference to it may be collected."""


async def answered(desk: Desk, ticket: Ticket, send: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Return Triton's answer; raise Refused if its model's process dies, or is loaded again each time it is asked.

    Args:
        send: sends the request once; raises ModelGone if it met a model that was being loaded again.
    """
    for last in (False,) * (TRIES - 1) + (True,):
        call = asyncio.ensure_future(send())
        both: set[asyncio.Future[Any]] = {call, ticket.lost}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not call.done():
            call.cancel()
            raise lost(ticket.entry, ticket)
        try:
            return call.result()
        except ModelGone:
            if last:
                break
            await desk.health.wait(ticket.entry.name, desk.limits.mending_seconds)
    raise reloading(ticket.entry)


def keep(work: asyncio.Task[T]) -> asyncio.Task[T]:
    """Return a task that goes on although nobody may wait for it."""
    _running.add(work)
    work.add_done_callback(_finish)
    return work


def _finish(work: asyncio.Task[Any]) -> None:
    """Forget a request that has ended, and look at its error, which nobody else may do."""
    _running.discard(work)
    if not work.cancelled():
        work.exception()


def lost(entry: Entry, ticket: Ticket) -> Refused:
    """Return the refusal of a request whose model's process has died."""
    return Refused("UNAVAILABLE", f"{entry.name} could not finish the request: {ticket.lost.result()}; try again")


def reloading(entry: Entry) -> Refused:
    """Return the refusal of a request that met its model while it was being loaded again, every time."""
    return Refused("UNAVAILABLE", f"{entry.name} is being loaded again; try again")
