"""One request with one answer, which ends inside Triton even if its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from tritone.door.desk import Desk, Ticket
from tritone.door.entries import Entry
from tritone.door.refusal import Refused
from tritone.door.upstream import ModelGone, of_rpc

TRIES = 3
"""Times a request is sent that met a model while it was being loaded again."""
_running: set[asyncio.Task[Any]] = set()
"""Requests whose clients may have left; a task without a reference to it may be collected."""


class WholeRequest:
    """A request on its way through Triton.

    Args:
        send: Triton's call; takes a request and returns what is awaited.
    """

    def __init__(self, desk: Desk, entry: Entry, send: Callable[[pb.ModelInferRequest], Any]) -> None:
        self._desk, self._entry, self._send = desk, entry, send
        self._ticket: Ticket | None = None

    async def run(self, request: pb.ModelInferRequest, text: int) -> pb.ModelInferResponse:
        """Return the answer; raise Refused. When the client leaves, the work is cancelled."""
        work = asyncio.create_task(self._work(request, text))
        _running.add(work)
        work.add_done_callback(_finish)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if self._ticket is None:
                work.cancel()
            else:
                self._desk.cancel(self._ticket)
            raise

    async def _work(self, request: pb.ModelInferRequest, text: int) -> pb.ModelInferResponse:
        client_id = request.id
        async with self._desk.admit(self._entry, text) as ticket:
            self._ticket = ticket
            request.id = ticket.id
            for last in (False,) * (TRIES - 1) + (True,):
                try:
                    answer = await self._ask(request, ticket)
                    break
                except ModelGone:
                    if last:
                        raise Refused("UNAVAILABLE", f"{self._entry.name} is being loaded again; try again") from None
                    await self._desk.health.wait(self._entry.name, self._desk.limits.mending_seconds)
            answer.id = client_id
            self._desk.spoke(ticket, samples(answer))
            return answer

    async def _ask(self, request: pb.ModelInferRequest, ticket: Ticket) -> pb.ModelInferResponse:
        call = asyncio.ensure_future(self._send(request))
        await asyncio.wait({call, ticket.lost}, return_when=asyncio.FIRST_COMPLETED)
        if not call.done():
            call.cancel()
            raise Refused(
                "UNAVAILABLE", f"{self._entry.name} could not finish the request: {ticket.lost.result()}; try again"
            )
        try:
            return call.result()
        except grpc.RpcError as error:
            raise of_rpc(error, self._entry.name, self._desk.health) from error


def samples(answer: pb.ModelInferResponse) -> int:
    """Return the samples of an answer's waveform, 0 without one."""
    for tensor in answer.outputs:
        if tensor.name == "waveform" and len(tensor.shape) == 2:
            return int(tensor.shape[0] * tensor.shape[1])
    return 0


def _finish(work: asyncio.Task[Any]) -> None:
    """Forget a request that has ended, and look at its error, which nobody else may do."""
    _running.discard(work)
    if not work.cancelled():
        work.exception()
