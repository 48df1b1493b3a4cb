"""Requests that passed the checks, on their way to Triton's HTTP endpoint and back."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tritone.door.desk import Desk, Ticket
from tritone.door.entries import Entry
from tritone.door.outbox import Outbox
from tritone.door.refusal import Refused
from tritone.door.upstream import ModelGone, translate
from tritone.door.web.json_body import Json, write

HEADER_LENGTH = "Inference-Header-Content-Length"
KEPT = ("Content-Type", "Content-Encoding", HEADER_LENGTH)
"""Headers of Triton's answers that clients get."""
STATUS = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 499: "CANCELLED", 500: "INTERNAL", 503: "UNAVAILABLE"}
TRIES = 3
WATCH = 1.0
SHAPE = re.compile(rb'"name":"waveform","datatype":"FP32","shape":\[(\d+),(\d+)\]')
WAVEFORM = re.compile(rb'"waveform":\[([^\]]*)\]')
_running: set[asyncio.Task[Any]] = set()
"""Requests whose clients may have left; a task without a reference to it may be collected."""


@dataclass(frozen=True)
class Answer:
    """An answer of Triton's."""

    status: int
    body: bytes
    headers: dict[str, str]


class HttpForward:
    """The connections to Triton's HTTP endpoint.

    Args:
        socket: the file at which it listens.
    """

    def __init__(self, desk: Desk, socket: Path) -> None:
        self._desk = desk
        # No limit: the desk bounds what is inside. Answers go to the client as they are packed.
        self._session = aiohttp.ClientSession(
            "http://triton",
            connector=aiohttp.UnixConnector(str(socket), limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def get(self, path: str) -> Answer:
        """Return Triton's answer to a question that runs no model."""
        return await self._call("GET", path, None, {}, "the server")

    async def post(self, path: str, data: bytes, headers: Mapping[str, str], model: str = "the server") -> Answer:
        """Return Triton's answer to a body; raise Refused or ModelGone for an error of Triton's."""
        return await self._call("POST", path, data, headers, model)

    async def _call(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str], model: str) -> Answer:
        try:
            headers = {"Accept-Encoding": "identity", **headers}
            async with self._session.request(method, path, data=data, headers=headers) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            raise translate("UNAVAILABLE", str(error), model, self._desk.health) from error
        if answer.status >= 400:
            raise translate(STATUS.get(answer.status, "INTERNAL"), error_of(body), model, self._desk.health)
        return Answer(answer.status, body, {key: answer.headers[key] for key in KEPT if key in answer.headers})

    async def whole(
        self, entry: Entry, path: str, body: Json, binary: bytes | None, text: int, headers: Mapping[str, str]
    ) -> Answer:
        """Return the answer to one request. When the client leaves, the models are told, and nobody waits."""
        place: list[Ticket] = []
        work = asyncio.create_task(self._whole(entry, path, body, binary, text, headers, place))
        _running.add(work)
        work.add_done_callback(_finish)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if place:
                self._desk.cancel(place[0])
            else:
                work.cancel()
            raise

    async def _whole(
        self,
        entry: Entry,
        path: str,
        body: Json,
        binary: bytes | None,
        text: int,
        headers: Mapping[str, str],
        place: list[Ticket],
    ) -> Answer:
        client_id = body.get("id")
        async with self._desk.admit(entry, text) as ticket:
            place.append(ticket)
            data = write({**body, "id": ticket.id})
            headers = {**headers, "Content-Type": "application/json"}
            if binary is not None:
                headers |= {HEADER_LENGTH: str(len(data)), "Content-Type": "application/octet-stream"}
                data += binary
            for last in (False,) * (TRIES - 1) + (True,):
                try:
                    answer = await self._ask(path, data, headers, entry, ticket)
                    break
                except ModelGone:
                    if last:
                        raise Refused("UNAVAILABLE", f"{entry.name} is being loaded again; try again") from None
                    await self._desk.health.wait(entry.name, self._desk.limits.mending_seconds)
            found = SHAPE.search(answer.body[:4096])
            self._desk.spoke(ticket, int(found[1]) * int(found[2]) if found else 0)
            return with_id(answer, ticket.id, client_id)

    async def _ask(self, path: str, data: bytes, headers: Mapping[str, str], entry: Entry, ticket: Ticket) -> Answer:
        call = asyncio.ensure_future(self.post(path, data, headers, entry.name))
        both: set[asyncio.Future[Any]] = {call, ticket.lost}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not call.done():
            call.cancel()
            raise Refused(
                "UNAVAILABLE", f"{entry.name} could not finish the request: {ticket.lost.result()}; try again"
            )
        return call.result()

    async def stream(self, entry: Entry, request: web.Request, body: Json, text: int) -> web.StreamResponse:
        """Send the events of a stream as the client reads them, and return the finished response."""
        limits = self._desk.limits
        client_id = body.get("id")
        async with self._desk.admit(entry, text) as ticket:
            outbox: Outbox[bytes] = Outbox(
                limits.unread_bytes,
                limits.patience,
                lambda: self._desk.pause(ticket),
                lambda: self._desk.resume(ticket),
            )
            ticket.lost.add_done_callback(
                lambda lost: (
                    None if lost.cancelled() else outbox.close(Refused("UNAVAILABLE", f"{lost.result()}; try again"))
                )
            )
            pump = asyncio.create_task(
                self._pump(entry, request.path, {**body, "id": ticket.id}, ticket, outbox, client_id)
            )
            try:
                return await self._send(request, outbox)
            finally:
                if not pump.done():
                    self._desk.cancel(ticket)
                    await ended(pump, ticket)

    async def _pump(
        self, entry: Entry, path: str, body: Json, ticket: Ticket, outbox: Outbox[bytes], client_id: Any
    ) -> None:
        """Take the events from Triton until its stream ends; a client that has left is not told of them."""
        try:
            headers = {"Accept-Encoding": "identity"}
            async with self._session.post(path, data=write(body), headers=headers) as answer:
                if answer.status >= 400:
                    status = STATUS.get(answer.status, "INTERNAL")
                    raise translate(status, error_of(await answer.read()), entry.name, self._desk.health)
                async for line in lines(answer.content):
                    found = WAVEFORM.search(line)
                    self._desk.spoke(ticket, found[1].count(b",") + 1 if found else 0)
                    outbox.put(replace_id(line, ticket.id, client_id), len(line))
            outbox.close()
        except ModelGone:
            outbox.close(Refused("UNAVAILABLE", f"{entry.name} is being loaded again; try again"))
        except Refused as refusal:
            outbox.close(refusal)
        except (aiohttp.ClientError, OSError) as error:
            try:
                outbox.close(translate("UNAVAILABLE", str(error), entry.name, self._desk.health))
            except ModelGone:
                outbox.close(Refused("UNAVAILABLE", f"{entry.name} is being loaded again; try again"))

    @staticmethod
    async def _send(request: web.Request, outbox: Outbox[bytes]) -> web.StreamResponse:
        first = await outbox.get()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        item = first
        try:
            while item is not None:
                sending = asyncio.ensure_future(response.write(item))
                while not (await asyncio.wait({sending}, timeout=WATCH))[0]:
                    outbox.check_reader()
                await sending
                item = await outbox.get()
        except Refused as refusal:
            if request.transport is not None and refusal.status == "DEADLINE_EXCEEDED":
                request.transport.abort()
            else:
                await response.write(b"data: " + json.dumps({"error": str(refusal)}).encode() + b"\n\n")
        await response.write_eof()
        return response


async def ended(pump: asyncio.Task[None], ticket: Ticket) -> None:
    """Wait until Triton's stream has ended, or will never do so, even while this task is being cancelled."""
    both: set[asyncio.Future[Any]] = {pump, ticket.lost}
    while not pump.done() and not ticket.lost.done():
        try:
            await asyncio.shield(asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED))
        except asyncio.CancelledError:
            continue
    pump.cancel()


async def lines(content: aiohttp.StreamReader) -> Any:
    """Yield the events of a stream, each with the blank line behind it; an event may be megabytes long."""
    rest = b""
    async for part in content.iter_any():
        rest += part
        *whole, rest = rest.split(b"\n\n")
        for event in whole:
            yield event + b"\n\n"
    if rest:
        yield rest


def replace_id(data: bytes, inside: str, client_id: Any) -> bytes:
    """Return an answer's JSON with the client's id in the place of the door's, or without one."""
    own = f'"id":"{inside}"'.encode()
    if client_id is not None:
        return data.replace(own, b'"id":' + json.dumps(client_id).encode(), 1)
    return data.replace(own + b",", b"", 1).replace(b"," + own, b"", 1)


def with_id(answer: Answer, inside: str, client_id: Any) -> Answer:
    """Return an answer with the client's id; a packed one keeps the door's, which tells nothing."""
    if "Content-Encoding" in answer.headers:
        return answer
    headers = dict(answer.headers)
    end = int(headers.get(HEADER_LENGTH, len(answer.body)))
    head = replace_id(answer.body[:end], inside, client_id)
    if HEADER_LENGTH in headers:
        headers[HEADER_LENGTH] = str(len(head))
    return Answer(answer.status, head + answer.body[end:], headers)


def error_of(body: bytes) -> str:
    """Return the sentence of an error that Triton answered with."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:500].decode(errors="replace")


def _finish(work: asyncio.Task[Any]) -> None:
    """Forget a request that has ended, and look at its error, which nobody else may do."""
    _running.discard(work)
    if not work.cancelled():
        work.exception()
