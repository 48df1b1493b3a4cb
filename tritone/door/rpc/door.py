"""The front door's gRPC half: Triton's service, with the calls that clients need and no others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc

from tritone.door.desk import Desk
from tritone.door.entries import Entries
from tritone.door.refusal import Refused
from tritone.door.rpc.checks import check_request
from tritone.door.rpc.stream import Relay
from tritone.door.rpc.whole import WholeRequest

T = TypeVar("T")
Context = Any
"""grpc.aio.ServicerContext, which is generic in types that are not declared at run time."""
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
"""The two answers of the health service, which every gRPC server shares (grpc.health.v1)."""
CLOSED = (
    "SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister", "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister", "TraceSetting", "LogSettings", "RepositoryModelLoad",
    "RepositoryModelUnload",
)  # fmt: skip
"""Triton's calls that change the server or reach into its memory."""


class GrpcDoor(rpc.GRPCInferenceServiceServicer):
    """Serves clients on the public gRPC port and passes their requests on.

    Args:
        triton: address of Triton's own gRPC socket, such as "unix:/run/x/grpc:1".
    """

    def __init__(self, desk: Desk, entries: Entries, triton: str) -> None:
        self._desk, self._entries = desk, entries
        self._channel = grpc.aio.insecure_channel(
            triton, options=[*UNLIMITED, ("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 500)]
        )
        self._triton: Any = rpc.GRPCInferenceServiceStub(self._channel)
        self._server: Any = None

    async def start(self, address: str, credentials: Any = None, options: tuple[tuple[str, Any], ...] = ()) -> int:
        """Listen on "host:port" and return the port; raise OSError if it is in use."""
        limits = self._desk.limits
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=limits.connections,
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", limits.request_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.server_handshake_timeout_ms", 10_000),
                *options,
            ],
        )
        rpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
        }
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)])
        try:
            if credentials is None:
                port = int(self._server.add_insecure_port(address))
            else:
                port = int(self._server.add_secure_port(address, credentials))
        except RuntimeError as error:
            raise OSError(f"the gRPC port of {address} cannot be used: {error}") from error
        await self._server.start()
        return port

    async def stop(self, grace: float) -> None:
        """Refuse new calls, wait up to `grace` seconds for those that run, then end them."""
        if self._server is not None:
            await self._server.stop(grace)
        await self._channel.close()

    async def _check(self, _request: bytes, _context: Context) -> bytes:
        return SERVING if self._desk.health.state.ready else NOT_SERVING

    async def _watch(self, _request: bytes, _context: Context) -> AsyncIterator[bytes]:
        last = b""
        while True:
            answer = await self._check(b"", None)
            if answer != last:
                yield (last := answer)
            await asyncio.sleep(0.5)

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        """Return True while the front door answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        """Return True if every model answers."""
        return pb.ServerReadyResponse(ready=self._desk.health.state.ready)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        """Return True if the model is served and answers."""
        entry = self._entries.get(request.name)
        return pb.ModelReadyResponse(ready=entry is not None and not self._desk.health.concerns(entry.name))

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        """Return Triton's answer."""
        return await self._plain(context, self._triton.ServerMetadata(request))

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        """Return Triton's answer for a model that is served."""
        request.name = await self._known(context, request.name)
        return await self._plain(context, self._triton.ModelMetadata(request), request.name)

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        """Return Triton's answer for a model that is served, with the parameters of its entry."""
        request.name = await self._known(context, request.name)
        answer = await self._plain(context, self._triton.ModelConfig(request), request.name)
        for key, value in self._entries[request.name].parameters.items():
            answer.config.parameters[key].string_value = value
        return answer

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, context: Context) -> pb.ModelStatisticsResponse:
        """Return Triton's answer for one model that is served, or for all."""
        if request.name:
            request.name = await self._known(context, request.name)
        answer = await self._plain(context, self._triton.ModelStatistics(request), request.name)
        kept = [entry for entry in answer.model_stats if entry.name in self._entries]
        return pb.ModelStatisticsResponse(model_stats=kept)

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, context: Context) -> pb.RepositoryIndexResponse:
        """Return the models that are served, and whether they are ready."""
        answer = await self._plain(context, self._triton.RepositoryIndex(request))
        return pb.RepositoryIndexResponse(models=[model for model in answer.models if model.name in self._entries])

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """Return the answer of one request."""
        try:
            entry = self._entries.find(request.model_name)
            text = check_request(request, self._desk.limits.request_bytes)
            return await WholeRequest(self._desk, entry, self._triton.ModelInfer).run(request, text)
        except Refused as refusal:
            return await abort(context, refusal)

    async def ModelStreamInfer(self, request: AsyncIterator[pb.ModelInferRequest], context: Context) -> None:
        """Pass on the requests of one stream, and write their answers as they come."""
        try:
            await Relay(self._desk, self._entries, self._triton).run(request, context)
        except Refused as refusal:
            await abort(context, refusal)

    async def _known(self, context: Context, name: str) -> str:
        """Return the name that Triton knows a served model by."""
        try:
            return self._entries.find(name).name
        except Refused as refusal:
            return str(await abort(context, refusal))

    async def _plain(self, context: Context, call: Awaitable[T], name: str = "the server") -> T:
        """Return the answer of a call that runs no model; wait while models are being loaded again."""
        try:
            await self._desk.health.wait(name, self._desk.limits.mending_seconds)
            return await call
        except Refused as refusal:
            return await abort(context, refusal)
        except grpc.RpcError as error:
            status = error.code() if error.code() is not grpc.StatusCode.UNKNOWN else grpc.StatusCode.UNAVAILABLE
            return await context.abort(status, error.details() or "Triton does not answer")


async def abort(context: Context, refusal: Refused) -> Any:
    """End the call with the refusal's status and sentence."""
    return await context.abort(getattr(grpc.StatusCode, refusal.status), str(refusal))


def closed(name: str) -> Any:
    """Return the handler of a call that is closed to clients."""

    async def refuse(_self: GrpcDoor, _request: Any, context: Context) -> Any:
        return await abort(context, Refused("PERMISSION_DENIED", f"{name} is closed to clients of this server"))

    refuse.__doc__ = "End the call: it is closed to clients."
    return refuse


for _name in CLOSED:
    setattr(GrpcDoor, _name, closed(_name))
