"""One stream of server-sent events: it comes from Triton, and goes to the client as fast as the client reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import web

from tritone.door.desk import Ticket
from tritone.door.entries import Entry
from tritone.door.outbox import Outbox
from tritone.door.passage import TRIES, keep, lost, reloading
from tritone.door.refusal import Refused
from tritone.door.upstream import ModelGone, translate
from tritone.door.web.checks import Checked
from tritone.door.web.forward import ERROR, Forward, refusal_of, replace_id, samples

EVENTS = {"Content-Type": "text/event-stream; charset=utf-8"}


class Events:
    """The stream of one request.

    A client that leaves does not end Triton's: its request is flagged, and the end is awaited, so that the request's
    place is free exactly when its work has ended.
    """

    def __init__(self, triton: Forward, entry: Entry, path: str, checked: Checked) -> None:
        self._triton, self._desk, self._entry, self._path, self._checked = triton, triton.desk, entry, path, checked
        limits = self._desk.limits
        self._outbox: Outbox[bytes] = Outbox(limits.unread_bytes, limits.patience, self._pause, self._resume)
        self._ticket: Ticket | None = None
        self._begun = self._left = False

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Send the events, and return the finished response; raise Refused if there is not even one."""
        work = keep(asyncio.create_task(self._work()))
        try:
            return await self._send(request)
        finally:
            self._left = True
            if self._ticket is None:
                work.cancel()
            elif not work.done():
                if not self._ticket.lost.done():
                    self._desk.cancel(self._ticket)
                self._desk.resume(self._ticket)

    async def _send(self, request: web.Request) -> web.StreamResponse:
        item = await self._outbox.get()
        response = web.StreamResponse(headers=EVENTS)
        await response.prepare(request)
        try:
            while item is not None:
                await response.write(item)
                item = await self._outbox.get()
        except Refused as refusal:
            await response.write(b"data: " + json.dumps({"error": str(refusal)}).encode() + b"\n\n")
        await response.write_eof()
        return response

    async def _work(self) -> None:
        """Take the request through Triton; what comes of it goes into the outbox."""
        error: Exception | None = None
        try:
            async with self._desk.admit(self._entry, self._checked.text, self._checked.piece) as ticket:
                ticket.arriving = self._checked.arriving
                self._ticket = ticket
                pump = asyncio.create_task(self._pump(ticket))
                both: set[asyncio.Future[Any]] = {pump, ticket.lost}
                try:
                    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                    if not pump.done():
                        raise lost(self._entry, ticket)
                    pump.result()
                finally:
                    pump.cancel()
        except Exception as problem:
            error = problem
        finally:
            self._outbox.close(error)

    async def _pump(self, ticket: Ticket) -> None:
        """Take the events from Triton until its stream ends; send the request again if it met a model's reload."""
        for last in (False,) * (TRIES - 1) + (True,):
            try:
                return await self._take(ticket)
            except ModelGone:
                if last or self._begun:
                    raise reloading(self._entry) from None
                await self._desk.health.wait(self._entry.name, self._desk.limits.mending_seconds)

    async def _take(self, ticket: Ticket) -> None:
        data = self._checked.json_with(ticket.id)
        try:
            async with self._triton.session.post(self._path, data=data) as answer:
                if answer.status >= 400:
                    raise refusal_of(answer.status, await answer.read(), self._entry.name, self._desk)
                async for event in events(answer.content):
                    if ERROR.match(event):
                        raise refusal_of(answer.status, event, self._entry.name, self._desk)
                    self._begun = True
                    self._desk.spoke(ticket, samples(event))
                    if not self._left:
                        self._outbox.put(replace_id(event, ticket.id, self._checked.client_id), len(event))
        except (aiohttp.ClientError, OSError) as error:
            raise translate("UNAVAILABLE", str(error), self._entry.name, self._desk.health) from error

    def _pause(self) -> None:
        if self._ticket is not None:
            self._desk.pause(self._ticket)

    def _resume(self) -> None:
        if self._ticket is not None:
            self._desk.resume(self._ticket)


async def events(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the events of a stream, each with the blank line behind it; an event may be megabytes long."""
    parts: list[bytes] = []
    async for part in content.iter_any():
        # The blank line may have come in two parts.
        if parts and parts[-1].endswith(b"\n") and part.startswith(b"\n"):
            yield b"".join(parts) + b"\n"
            parts, part = [], part[1:]
        *whole, rest = part.split(b"\n\n")
        for event in whole:
            yield b"".join((*parts, event, b"\n\n"))
            parts = []
        if rest:
            parts.append(rest)
    if parts:
        yield b"".join(parts)
