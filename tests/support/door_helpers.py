"""A front door before a Triton that is played by a test, on a socket in a temporary folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc

from tritone.door.desk import Desk
from tritone.door.entries import Entries, Entry
from tritone.door.health import Health
from tritone.door.limits import Limits
from tritone.door.metrics import Metrics
from tritone.door.pace import Pace
from tritone.door.rpc.door import GrpcDoor
from tritone.server.flags import Flags

SAID = {"checkpoint": "nano 0123456789ab"}
INPUTS = {"target_text": "BYTES", "speed": "FP32", "seed": "INT64", "reference_wav_len": "INT32", "quiet": "BOOL"}
ENTRIES = Entries(
    (
        Entry("voice", "whole", 100, SAID, INPUTS, "voice_stream"),
        Entry("voice_stream", "stream", 100, inputs=INPUTS),
        Entry("tokens", "service"),
    ),
    {"other_voice": "voice"},
)


@dataclass
class FakeTriton(rpc.GRPCInferenceServiceServicer):
    """Answers as a test tells it, and keeps the requests it got."""

    infer: Callable[[pb.ModelInferRequest, Any], Awaitable[pb.ModelInferResponse]] | None = None
    stream: Callable[[pb.ModelInferRequest], AsyncIterator[pb.ModelStreamInferResponse]] | None = None
    requests: list[pb.ModelInferRequest] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        """Return the test's answer, by default one of 50 samples."""
        self.requests.append(request)
        return await self.infer(request, context) if self.infer else spoken(request.id)

    async def ModelStreamInfer(
        self, request: AsyncIterator[pb.ModelInferRequest], context: Any
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Yield the test's answers to each request in turn."""
        try:
            async for one in request:
                self.requests.append(one)
                assert self.stream is not None
                async for answer in self.stream(one):
                    yield answer
            self.ended.append("half-closed")
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise

    async def RepositoryIndex(self, request: Any, context: Any) -> pb.RepositoryIndexResponse:
        """Return entries and inner models."""
        names = (*ENTRIES, "voice_llm")
        return pb.RepositoryIndexResponse(
            models=[pb.RepositoryIndexResponse.ModelIndex(name=name, state="READY") for name in names]
        )

    async def ModelConfig(self, request: Any, context: Any) -> pb.ModelConfigResponse:
        """Return a config with the model's name alone."""
        answer = pb.ModelConfigResponse()
        answer.config.name = request.name
        return answer


def spoken(request_id: str, samples: int = 50, final: bool = False) -> pb.ModelInferResponse:
    """Return an answer with so many samples of a waveform."""
    answer = pb.ModelInferResponse(model_name="voice", id=request_id)
    answer.parameters["triton_final_response"].bool_param = final
    if samples:
        answer.outputs.add(name="waveform", datatype="FP32", shape=[1, samples])
        answer.raw_output_contents.append(bytes(4 * samples))
    return answer


def chunk(request_id: str, samples: int = 50, final: bool = False) -> pb.ModelStreamInferResponse:
    """Return an answer of a stream with so many samples."""
    return pb.ModelStreamInferResponse(infer_response=spoken(request_id, samples, final))


def ask(model: str = "voice", text: str = "hello", request_id: str = "mine") -> pb.ModelInferRequest:
    """Return a request to speak a text."""
    request = pb.ModelInferRequest(model_name=model, id=request_id)
    request.inputs.add(name="target_text", datatype="BYTES", shape=[1, 1])
    data = text.encode()
    request.raw_input_contents.append(len(data).to_bytes(4, "little") + data)
    return request


def new_desk(folder: Path, limits: Limits | None = None, speed: float = 10.0, memory: str = "") -> Desk:
    """Return a desk whose server is ready."""
    limits = limits or Limits()
    health = Health()
    health.set_ready()
    flags = folder / "flags"
    flags.mkdir(exist_ok=True)
    return Desk(limits, health, Metrics(), Flags(flags), Pace(speed, limits.streams), lambda: memory)


@dataclass
class House:
    """A door, its desk, and a stub that speaks to it."""

    desk: Desk
    client: Any


@asynccontextmanager
async def house(folder: Path, triton: FakeTriton, limits: Limits | None = None) -> AsyncIterator[House]:
    """Yield a front door before this Triton."""
    socket = f"unix:{folder}/triton"
    inner = grpc.aio.server()
    rpc.add_GRPCInferenceServiceServicer_to_server(triton, inner)
    inner.add_insecure_port(socket)
    await inner.start()
    desk = new_desk(folder, limits)
    door = GrpcDoor(desk, ENTRIES, socket)
    await door.start(f"unix:{folder}/door")
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"unix:{folder}/door", options=options) as channel:
        yield House(desk, rpc.GRPCInferenceServiceStub(channel))
    await door.stop(0)
    await inner.stop(0)


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Return once the condition holds; fail after a generous time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
