"""One request with one answer, which ends inside Triton even if its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from tritone.door.desk import Desk, Ticket
from tritone.door.entries import Entry
from tritone.door.passage import answered, keep
from tritone.door.upstream import of_rpc


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
        work = keep(asyncio.create_task(self._work(request, text)))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if self._ticket is None:
                work.cancel()
            else:
                self._desk.cancel(self._ticket)
            raise

    async def _work(self, request: pb.ModelInferRequest, text: int) -> pb.ModelInferResponse:
        client_id, asked = request.id, request.model_name
        async with self._desk.admit(self._entry, text) as ticket:
            self._ticket = ticket
            request.id, request.model_name = ticket.id, self._entry.name
            answer = await answered(self._desk, ticket, lambda: self._ask(request))
            answer.id, answer.model_name = client_id, asked
            self._desk.spoke(ticket, samples(answer))
            return answer

    async def _ask(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        try:
            return await self._send(request)
        except grpc.RpcError as error:
            raise of_rpc(error, self._entry.name, self._desk.health) from error


def samples(answer: pb.ModelInferResponse) -> int:
    """Return the samples of an answer's waveform, 0 without one."""
    for tensor in answer.outputs:
        if tensor.name == "waveform" and len(tensor.shape) == 2:
            return int(tensor.shape[0] * tensor.shape[1])
    return 0
