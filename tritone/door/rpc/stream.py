"""One client's stream: its requests go into a stream of Triton's, the answers come back as fast as the client reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from tritone.door.desk import Desk, Ticket
from tritone.door.entries import Entries, Entry
from tritone.door.outbox import Outbox
from tritone.door.passage import keep
from tritone.door.refusal import Refused
from tritone.door.rpc.checks import check_request, is_piece
from tritone.door.rpc.whole import samples
from tritone.door.upstream import ModelGone, of_rpc, translate

FINAL = "triton_final_response"
EMPTY_FINAL = "triton_enable_empty_final_response"
WATCH = 1.0
"""Seconds between two looks at a client that may have stopped reading."""


@dataclass
class Job:
    """A request inside Triton.

    Args:
        client_id, model: the client's own id, and the model it asked for.
        empty_final: whether the client wants to see an empty last answer.
    """

    ticket: Ticket
    client_id: str
    model: str
    empty_final: bool
    place: AsyncExitStack


class Relay:
    """Carries one client's stream.

    A client that leaves does not end Triton's stream: its requests are cancelled, and their last answers are awaited,
    so that each request's place is free exactly when its work has ended.
    """

    def __init__(self, desk: Desk, entries: Entries, triton: Any) -> None:
        self._desk, self._entries, self._triton = desk, entries, triton
        limits = desk.limits
        self._jobs: dict[str, Job] = {}
        self._outbox: Outbox[pb.ModelStreamInferResponse] = Outbox(
            limits.unread_bytes, limits.patience, self._pause, self._resume
        )
        self._upstream: Any = None
        self._left = False
        self._all_sent = asyncio.Event()
        self._changed = asyncio.Event()

    async def run(self, requests: AsyncIterator[pb.ModelInferRequest], context: Any) -> None:
        """Carry the stream to its end; raise Refused if it cannot be carried on."""
        self._upstream = self._triton.ModelStreamInfer()
        reading = keep(asyncio.create_task(self._read(requests)))
        keep(asyncio.create_task(self._pump()))
        watching = asyncio.create_task(self._watch(asyncio.current_task()))
        try:
            while (answer := await self._outbox.get()) is not None:
                await context.write(answer)
        except asyncio.CancelledError:
            if watching.done() and not watching.cancelled() and watching.exception():
                raise watching.exception() from None  # type: ignore[misc]
            raise
        finally:
            self._left = True
            watching.cancel()
            reading.cancel()
            self._all_sent.set()
            self._changed.set()
            for job in self._jobs.values():
                if not job.ticket.lost.done():
                    self._desk.cancel(job.ticket)
                self._desk.resume(job.ticket)

    async def _read(self, requests: AsyncIterator[pb.ModelInferRequest]) -> None:
        """Check, admit and pass on the client's requests in order."""
        try:
            async for request in requests:
                try:
                    await self._send(request)
                except Refused as refusal:
                    self._put(error_answer(str(refusal), request.id))
        except grpc.RpcError as error:
            self._outbox.close(of_rpc(error, "the stream", self._desk.health))
        finally:
            self._all_sent.set()
            self._changed.set()

    async def _send(self, request: pb.ModelInferRequest) -> None:
        asked = request.model_name
        entry = self._entry(request)
        text = check_request(request, self._desk.limits.request_bytes)
        piece = entry.kind == "stream" and is_piece(request)
        place = AsyncExitStack()
        ticket = await place.enter_async_context(self._desk.admit(entry, text, piece))
        ticket.arriving = "sequence_id" in request.parameters
        self._jobs[ticket.id] = Job(ticket, request.id, asked, wants_end(request), place)
        ticket.lost.add_done_callback(self._lost)
        request.id, request.model_name = ticket.id, entry.name
        request.parameters[EMPTY_FINAL].bool_param = True
        # A write that has begun is finished even if the client leaves, so that the request is known to be inside.
        await asyncio.shield(asyncio.ensure_future(self._upstream.write(request)))

    def _entry(self, request: pb.ModelInferRequest) -> Entry:
        """Return the entry that answers a request.

        Under the name of a whole utterance, a client that awaits an empty last answer, or sends its text in pieces,
        is one of a streaming model: it would drop the only answer of the other, or have each piece spoken alone.
        """
        entry = self._entries.find(request.model_name)
        streams = wants_end(request) or "sequence_id" in request.parameters
        return self._entries.streaming(entry) if streams else entry

    async def _pump(self) -> None:
        """Take Triton's answers until every request has ended and the client sends no more."""
        error: Refused | None = None
        ended = asyncio.create_task(self._end())
        try:
            async for answer in self._upstream:
                await self._answer(answer)
            if self._jobs:
                error = Refused("UNAVAILABLE", "Triton ended the stream before its requests were answered; try again")
        except grpc.RpcError as problem:
            try:
                error = of_rpc(problem, "the stream", self._desk.health)
            except ModelGone:
                error = Refused(
                    "UNAVAILABLE", f"the server is being mended: {self._desk.health.state.reason}; try again"
                )
        finally:
            ended.cancel()
            for job in tuple(self._jobs.values()):
                await self._close(job)
            self._outbox.close(error)

    async def _end(self) -> None:
        """End Triton's stream once nothing is outstanding; a cancelled one would leave memory behind in Triton."""
        await self._all_sent.wait()
        while self._jobs:
            self._changed.clear()
            await self._changed.wait()
        await self._upstream.done_writing()

    async def _answer(self, answer: pb.ModelStreamInferResponse) -> None:
        response = answer.infer_response
        job = self._jobs.get(response.id) or (next(iter(self._jobs.values())) if len(self._jobs) == 1 else None)
        if job is None:
            return
        final = bool(answer.error_message) or response.parameters[FINAL].bool_param
        if answer.error_message:
            answer = error_answer(self._explain(answer.error_message, job.ticket.entry), job.client_id)
        else:
            self._desk.spoke(job.ticket, samples(response))
            response.id, response.model_name = job.client_id, job.model
        if final:
            await self._close(job)
        if answer.error_message or response.outputs or job.empty_final:
            self._put(answer)

    def _explain(self, message: str, entry: Entry) -> str:
        try:
            return str(translate("INTERNAL", message, entry.name, self._desk.health))
        except ModelGone:
            return f"{entry.name} is being loaded again; try again"

    def _put(self, answer: pb.ModelStreamInferResponse) -> None:
        if not self._left:
            self._outbox.put(answer, answer.ByteSize())

    async def _close(self, job: Job) -> None:
        self._jobs.pop(job.ticket.id, None)
        self._changed.set()
        await job.place.aclose()

    def _lost(self, lost: asyncio.Future[str]) -> None:
        """Give the stream up: Triton would never answer the request whose model has died."""
        if not lost.cancelled() and self._jobs:
            self._outbox.close(Refused("UNAVAILABLE", f"{lost.result()}; try again"))
            self._upstream.cancel()

    async def _watch(self, main: asyncio.Task[Any] | None) -> None:
        """Give up a client that reads nothing of what is ready."""
        while True:
            await asyncio.sleep(WATCH)
            try:
                self._outbox.check_reader()
            except Refused:
                if main is not None:
                    main.cancel()
                raise

    def _pause(self) -> None:
        for job in self._jobs.values():
            self._desk.pause(job.ticket)

    def _resume(self) -> None:
        for job in self._jobs.values():
            self._desk.resume(job.ticket)


def wants_end(request: pb.ModelInferRequest) -> bool:
    """Return True if the client wants a last answer without data, as clients of decoupled models do."""
    return EMPTY_FINAL in request.parameters and request.parameters[EMPTY_FINAL].bool_param


def error_answer(message: str, client_id: str) -> pb.ModelStreamInferResponse:
    """Return the last answer of a request that failed."""
    answer = pb.ModelStreamInferResponse(error_message=message)
    answer.infer_response.id = client_id
    answer.infer_response.parameters[FINAL].bool_param = True
    return answer
