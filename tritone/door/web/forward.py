"""Requests that passed the checks, on their way to Triton's HTTP endpoint and back."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tritone.door.desk import Desk, Ticket
from tritone.door.entries import Entry
from tritone.door.passage import answered, keep
from tritone.door.refusal import Refused
from tritone.door.upstream import translate
from tritone.door.web.checks import Checked

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header that says where the JSON of a body ends and its binary data begins."""
KEPT = ("Content-Type", HEADER_LENGTH)
"""Headers of Triton's answers that clients get."""
STATUS = {
    400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 499: "CANCELLED", 500: "INTERNAL", 501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}  # fmt: skip
HEAD = 4096
"""Bytes at the beginning of an answer in which its id and the shape of its first output stand."""
SHAPE = re.compile(rb'"name":"waveform","datatype":"FP32","shape":\[(\d+),(\d+)\]')
WAVEFORM = re.compile(rb'"waveform":\[([^\]]*)\]')
ERROR = re.compile(rb'(?:data: )?\{"error":')


@dataclass(frozen=True)
class Answer:
    """An answer of Triton's."""

    body: bytes
    headers: dict[str, str]


class Forward:
    """The connections to Triton's HTTP endpoint.

    Args:
        socket: the file at which it listens.
    """

    def __init__(self, desk: Desk, socket: Path) -> None:
        self.desk = desk
        # No limit: the desk bounds what is inside. Answers come as they are, and the door packs them for clients.
        self.session = aiohttp.ClientSession(
            "http://triton",
            connector=aiohttp.UnixConnector(str(socket), limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.session.close()

    async def get(self, path: str) -> Answer:
        """Return Triton's answer to a question that runs no model."""
        return await self._call("GET", path, None, {}, "the server")

    async def post(self, path: str, data: bytes, headers: Mapping[str, str], model: str = "the server") -> Answer:
        """Return Triton's answer to a body; raise Refused or ModelGone for an error of Triton's."""
        return await self._call("POST", path, data, headers, model)

    async def _call(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str], model: str) -> Answer:
        try:
            async with self.session.request(method, path, data=data, headers=headers) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            raise translate("UNAVAILABLE", str(error), model, self.desk.health) from error
        if answer.status >= 400 or ERROR.match(body):  # `generate` answers some errors with 200
            raise refusal_of(answer.status, body, model, self.desk)
        return Answer(body, {key: answer.headers[key] for key in KEPT if key in answer.headers})

    async def whole(self, entry: Entry, path: str, checked: Checked) -> Answer:
        """Return the answer to one request. When the client leaves, its request is flagged, and nobody waits."""
        place: list[Ticket] = []
        work = keep(asyncio.create_task(self._whole(entry, path, checked, place)))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if not place:
                work.cancel()
            elif not work.done():
                self.desk.cancel(place[0])
            raise

    async def _whole(self, entry: Entry, path: str, checked: Checked, place: list[Ticket]) -> Answer:
        async with self.desk.admit(entry, checked.text, checked.piece) as ticket:
            ticket.arriving = checked.arriving
            place.append(ticket)
            data, headers = checked.json_with(ticket.id), {"Content-Type": "application/json"}
            if checked.binary is not None:
                headers = {HEADER_LENGTH: str(len(data)), "Content-Type": "application/octet-stream"}
                data += checked.binary
            answer = await answered(self.desk, ticket, lambda: self.post(path, data, headers, entry.name))
            self.desk.spoke(ticket, samples(answer.body))
            return with_id(answer, ticket.id, checked.client_id)


def refusal_of(status: int, body: bytes, model: str, desk: Desk) -> Refused:
    """Return the refusal for an error that Triton answered with; raise ModelGone to send the request again."""
    try:
        message = str(json.loads(body.removeprefix(b"data: "))["error"])
    except (ValueError, KeyError, TypeError):
        message = body[:500].decode(errors="replace")
    return translate(
        STATUS.get(status, "INVALID_ARGUMENT" if status == 200 else "INTERNAL"), message, model, desk.health
    )


def samples(answer: bytes) -> int:
    """Return the samples of an answer's waveform without parsing it; 0 without one."""
    found = SHAPE.search(answer, 0, HEAD)
    if found:
        return int(found[1]) * int(found[2])
    numbers = WAVEFORM.search(answer)
    return numbers[1].count(b",") + 1 if numbers and numbers[1] else 0


def replace_id(data: bytes, inside: str, client_id: str) -> bytes:
    """Return an answer's JSON with the client's id instead of the door's, or without one."""
    own = f'"id":"{inside}",'.encode()
    head = data[:HEAD].replace(own, b'"id":' + json.dumps(client_id).encode() + b"," if client_id else b"", 1)
    return head + data[HEAD:]


def with_id(answer: Answer, inside: str, client_id: str) -> Answer:
    """Return an answer with the client's id."""
    headers = dict(answer.headers)
    end = int(headers.get(HEADER_LENGTH, len(answer.body)))
    head = replace_id(answer.body[:end], inside, client_id)
    if HEADER_LENGTH in headers:
        headers[HEADER_LENGTH] = str(len(head))
    return Answer(head + answer.body[end:], headers)
