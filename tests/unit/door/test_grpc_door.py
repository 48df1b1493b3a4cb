"""The gRPC half of the front door, before a Triton that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.door_helpers import SAID, FakeTriton, House, ask, house, spoken, until
from tritonclient.grpc import service_pb2 as pb

from tritone.door.limits import Limits
from tritone.door.rpc.door import CLOSED

Test = Callable[[House], Awaitable[Any]]


def run(folder: Path, triton: FakeTriton, test: Test, limits: Limits | None = None) -> Any:
    """Run the test in a house of its own and return its result."""

    async def body() -> Any:
        async with house(folder, triton, limits) as place:
            return await test(place)

    return asyncio.run(body())


def status(error: grpc.RpcError) -> tuple[str, str]:
    """Return the name and the text of an error's status."""
    return error.code().name, error.details()


def test_a_request_has_an_id_of_the_doors_inside_and_its_own_outside(tmp_path: Path) -> None:
    triton = FakeTriton()

    async def test(place: House) -> None:
        answers = await asyncio.gather(*(place.client.ModelInfer(ask(request_id="same")) for _ in range(3)))
        assert [answer.id for answer in answers] == ["same"] * 3

    run(tmp_path, triton, test)
    inside = {request.id for request in triton.requests}
    assert len(inside) == 3 and "same" not in inside


def test_only_entries_are_served(tmp_path: Path) -> None:
    async def test(place: House) -> None:
        for call in (
            place.client.ModelInfer(ask("voice_llm")),
            place.client.ModelConfig(pb.ModelConfigRequest(name="voice_llm")),
            place.client.ModelMetadata(pb.ModelMetadataRequest(name="voice_llm")),
            place.client.ModelStatistics(pb.ModelStatisticsRequest(name="voice_llm")),
        ):
            with pytest.raises(grpc.RpcError) as error:
                await call
            assert status(error.value) == (
                "NOT_FOUND", "model 'voice_llm' is not served; the models are other_voice, tokens, voice, voice_stream"
            )  # fmt: skip
        index = await place.client.RepositoryIndex(pb.RepositoryIndexRequest())
        assert [model.name for model in index.models] == ["voice", "voice_stream", "tokens"]
        assert (await place.client.ModelConfig(pb.ModelConfigRequest(name="voice"))).config.name == "voice"
        assert not (await place.client.ModelReady(pb.ModelReadyRequest(name="voice_llm"))).ready
        # Another name of the model is Triton's name inside, and the client's own in the answer.
        assert (await place.client.ModelConfig(pb.ModelConfigRequest(name="other_voice"))).config.name == "voice"
        assert (await place.client.ModelReady(pb.ModelReadyRequest(name="other_voice"))).ready
        assert (await place.client.ModelInfer(ask("other_voice"))).model_name == "other_voice"

    triton = FakeTriton()
    run(tmp_path, triton, test)
    assert [request.model_name for request in triton.requests] == ["voice"]


def test_calls_that_change_the_server_are_closed(tmp_path: Path) -> None:
    async def test(place: House) -> None:
        for name in CLOSED:
            request = getattr(pb, f"{name}Request")()
            with pytest.raises(grpc.RpcError) as error:
                await getattr(place.client, name)(request)
            assert status(error.value) == ("PERMISSION_DENIED", f"{name} is closed to clients of this server")

    run(tmp_path, FakeTriton(), test)


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_request_that_is_too_large_never_arrives(tmp_path: Path, compression: grpc.Compression) -> None:
    triton = FakeTriton()

    async def test(place: House) -> None:
        with pytest.raises(grpc.RpcError) as error:
            await place.client.ModelInfer(ask(text="x" * 5_000_000), compression=compression)
        assert status(error.value)[0] == "RESOURCE_EXHAUSTED"

    run(tmp_path, triton, test, Limits(request_bytes=4000))
    assert triton.requests == []


def test_a_client_that_leaves_is_told_to_the_models_and_its_place_stays_taken(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def infer(request: pb.ModelInferRequest, _context: Any) -> pb.ModelInferResponse:
        await release.wait()
        return spoken(request.id)

    triton = FakeTriton(infer)

    async def test(place: House) -> None:
        call = place.client.ModelInfer(ask())
        await until(lambda: bool(triton.requests))
        call.cancel()
        inside = triton.requests[0].id
        await until(lambda: place.desk.flags.cancelled(inside))
        assert place.desk.count("whole") == 1
        release.set()
        await until(lambda: place.desk.count("whole") == 0)
        assert not place.desk.flags.cancelled(inside)

    run(tmp_path, triton, test)


def test_a_deadline_counts_as_leaving(tmp_path: Path) -> None:
    async def infer(request: pb.ModelInferRequest, _context: Any) -> pb.ModelInferResponse:
        while not place_of["desk"].flags.cancelled(request.id):
            await asyncio.sleep(0.01)
        return spoken(request.id)

    place_of: dict[str, Any] = {}

    async def test(place: House) -> None:
        place_of["desk"] = place.desk
        with pytest.raises(grpc.RpcError) as error:
            await place.client.ModelInfer(ask(), timeout=0.2)
        assert status(error.value)[0] == "DEADLINE_EXCEEDED"
        await until(lambda: place.desk.count("whole") == 0)

    run(tmp_path, FakeTriton(infer), test)


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        ("INVALID_ARGUMENT", "in ensemble 'voice', INVALID_ARGUMENT: speed: is 9", ("INVALID_ARGUMENT", "speed: is 9")),
        ("INTERNAL", "in ensemble 'voice', Stub process 'voice_llm_0_0' is not healthy.", ("UNAVAILABLE", "try again")),
        (
            "INTERNAL",
            "Failed to increase the shared memory pool size for key 'tritone-8000-x'",
            ("RESOURCE_EXHAUSTED", "too little shared memory"),
        ),
        ("UNKNOWN", "odd", ("INTERNAL", "odd")),
    ],
)  # fmt: skip
def test_tritons_errors_reach_the_client_as_what_they_mean(
    tmp_path: Path, code: str, details: str, expected: tuple[str, str]
) -> None:
    async def infer(_request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        await context.abort(getattr(grpc.StatusCode, code), details)
        raise AssertionError

    async def test(place: House) -> None:
        with pytest.raises(grpc.RpcError) as error:
            await place.client.ModelInfer(ask())
        name, text = status(error.value)
        assert name == expected[0] and expected[1] in text and "tritone-8000" not in text

    run(tmp_path, FakeTriton(infer), test)


def test_requests_wait_while_a_model_is_loaded_again(tmp_path: Path) -> None:
    triton = FakeTriton()

    async def test(place: House) -> None:
        place.desk.health.set_unready("the process of voice_llm was killed", frozenset({"voice", "voice_llm"}))
        held = asyncio.ensure_future(place.client.ModelInfer(ask()))
        assert (await place.client.ModelInfer(ask("tokens"))).id == "mine"
        ready = await place.client.ServerReady(pb.ServerReadyRequest())
        assert not ready.ready and not held.done()
        place.desk.health.set_ready()
        assert (await held).id == "mine"

    run(tmp_path, triton, test)
    assert [request.model_name for request in triton.requests] == ["tokens", "voice"]


def test_a_model_that_does_not_come_back_refuses_with_the_reason(tmp_path: Path) -> None:
    async def test(place: House) -> None:
        place.desk.health.set_unready("the process of voice_llm was killed")
        with pytest.raises(grpc.RpcError) as error:
            await place.client.ModelInfer(ask())
        assert status(error.value) == (
            "UNAVAILABLE", "voice is not ready: the process of voice_llm was killed; try again later"
        )  # fmt: skip

    run(tmp_path, FakeTriton(), test, Limits(mending_seconds=0.1))


def test_a_request_that_met_a_model_being_loaded_is_sent_again(tmp_path: Path) -> None:
    place_of: dict[str, Any] = {}
    tries: list[str] = []

    async def infer(request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        tries.append(request.id)
        if len(tries) == 1:
            place_of["desk"].health.set_unready("the process of voice_llm was killed")
            asyncio.get_running_loop().call_later(0.1, place_of["desk"].health.set_ready)
            await context.abort(
                grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'voice' has no available versions"
            )
        return spoken(request.id)

    async def test(place: House) -> None:
        place_of["desk"] = place.desk
        assert (await place.client.ModelInfer(ask())).id == "mine"

    run(tmp_path, FakeTriton(infer), test)
    assert len(tries) == 2


def test_the_health_service_tells_the_truth(tmp_path: Path) -> None:
    async def check(folder: Path) -> bytes:
        async with grpc.aio.insecure_channel(f"unix:{folder}/door") as channel:
            return await channel.unary_unary("/grpc.health.v1.Health/Check")(b"")  # type: ignore[no-any-return]

    async def test(place: House) -> list[bytes]:
        first = await check(tmp_path)
        place.desk.health.set_unready("gone")
        return [first, await check(tmp_path)]

    assert run(tmp_path, FakeTriton(), test) == [b"\x08\x01", b"\x08\x02"]


def test_the_config_of_an_entry_has_the_entrys_own_parameters(tmp_path: Path) -> None:
    async def test(place: House) -> None:
        answer = await place.client.ModelConfig(pb.ModelConfigRequest(name="voice"))
        assert answer.config.name == "voice"
        assert {key: value.string_value for key, value in answer.config.parameters.items()} == SAID
        other = await place.client.ModelConfig(pb.ModelConfigRequest(name="voice_stream"))
        assert not other.config.parameters

    run(tmp_path, FakeTriton(), test)
