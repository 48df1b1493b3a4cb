"""Streams through the front door, before a Triton that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.door_helpers import FakeTriton, House, ask, chunk, house, until
from tritonclient.grpc import service_pb2 as pb

from tritone.door.limits import Limits

Answers = AsyncIterator[pb.ModelStreamInferResponse]


def run(folder: Path, triton: FakeTriton, test: Callable[[House], Awaitable[Any]], limits: Limits | None = None) -> Any:
    """Run the test in a house of its own and return its result."""

    async def body() -> Any:
        async with house(folder, triton, limits) as place:
            return await test(place)

    return asyncio.run(body())


async def two_chunks(request: pb.ModelInferRequest) -> Answers:
    """Yield two chunks and an empty end."""
    yield chunk(request.id, 30)
    yield chunk(request.id, 20)
    yield chunk(request.id, 0, final=True)


def until_cancelled(place_of: dict[str, House]) -> Callable[[pb.ModelInferRequest], Answers]:
    """Return a model that sends a chunk, then waits for the flag of a cancellation, as ours do."""

    async def stream(request: pb.ModelInferRequest) -> Answers:
        yield chunk(request.id)
        while not place_of["place"].desk.flags.cancelled(request.id):
            await asyncio.sleep(0.01)
        yield chunk(request.id, 0, final=True)

    return stream


async def one_by_one(*requests: pb.ModelInferRequest) -> AsyncIterator[pb.ModelInferRequest]:
    """Yield the requests, then end the client's half."""
    for request in requests:
        yield request


async def forever(*requests: pb.ModelInferRequest) -> AsyncIterator[pb.ModelInferRequest]:
    """Yield the requests and keep the client's half open."""
    for request in requests:
        yield request
    await asyncio.Event().wait()


def samples(answers: list[pb.ModelStreamInferResponse]) -> list[int]:
    """Return the samples of each answer."""
    return [sum(output.shape[1] for output in answer.infer_response.outputs) for answer in answers]


@pytest.mark.parametrize("empty_final", [False, True])
def test_chunks_come_in_order_and_the_empty_end_only_if_asked_for(tmp_path: Path, empty_final: bool) -> None:
    triton = FakeTriton(stream=two_chunks)

    async def test(place: House) -> None:
        request = ask("voice_stream")
        request.parameters["triton_enable_empty_final_response"].bool_param = empty_final
        answers = [answer async for answer in place.client.ModelStreamInfer(one_by_one(request))]
        assert samples(answers) == ([30, 20, 0] if empty_final else [30, 20])
        assert {answer.infer_response.id for answer in answers} == {"mine"}
        assert place.desk.count("stream") == 0

    run(tmp_path, triton, test)
    # A stream that is cancelled after its last answer would leave memory behind in Triton.
    assert triton.ended == ["half-closed"]


def test_a_bad_request_is_answered_and_the_next_is_spoken(tmp_path: Path) -> None:
    bad = ask("voice_stream", request_id="bad")
    bad.inputs[0].shape[:] = [1, 1 << 62]

    async def test(place: House) -> None:
        requests = one_by_one(bad, ask("voice_llm", request_id="inner"), ask("voice_stream"))
        answers = [answer async for answer in place.client.ModelStreamInfer(requests)]
        assert [(answer.infer_response.id, bool(answer.error_message)) for answer in answers] == [
            ("bad", True), ("inner", True), ("mine", False), ("mine", False)
        ]  # fmt: skip
        assert "target_text" in answers[0].error_message and "not served" in answers[1].error_message

    triton = FakeTriton(stream=two_chunks)
    run(tmp_path, triton, test)
    assert len(triton.requests) == 1


def test_streams_beyond_the_limit_are_refused_at_once(tmp_path: Path) -> None:
    place_of: dict[str, House] = {}

    async def test(place: House) -> None:
        place_of["place"] = place
        calls = [place.client.ModelStreamInfer(forever(ask("voice_stream", request_id=str(n)))) for n in range(5)]
        firsts = [await call.read() for call in calls]
        refused = [answer.error_message for answer in firsts if answer.error_message]
        assert len(refused) == 3 and all(message.startswith("BUSY: 2 requests are being spoken") for message in refused)
        for call in calls:
            call.cancel()
        await until(lambda: place.desk.count("stream") == 0)
        assert place.desk.metrics.registry.get_sample_value(
            "tritone_refused_total", {"model": "voice_stream", "status": "UNAVAILABLE"}
        ) == 3  # fmt: skip

    run(tmp_path, FakeTriton(stream=until_cancelled(place_of)), test, Limits(streams=2))


def test_a_client_that_leaves_ends_the_work_and_tritons_stream_ends_by_itself(tmp_path: Path) -> None:
    place_of: dict[str, House] = {}
    triton = FakeTriton(stream=until_cancelled(place_of))

    async def test(place: House) -> None:
        place_of["place"] = place
        call = place.client.ModelStreamInfer(forever(ask("voice_stream")))
        await call.read()
        assert place.desk.count("stream") == 1
        call.cancel()
        await until(lambda: place.desk.count("stream") == 0 and bool(triton.ended))

    run(tmp_path, triton, test)
    assert triton.ended == ["half-closed"]


def test_a_reader_that_stops_pauses_its_own_stream_only(tmp_path: Path) -> None:
    place_of: dict[str, House] = {}
    made: dict[str, int] = {}

    async def stream(request: pb.ModelInferRequest) -> Answers:
        desk = place_of["place"].desk
        for count in range(400):
            while desk.flags.paused(request.id) and not desk.flags.cancelled(request.id):
                await asyncio.sleep(0.01)
            if desk.flags.cancelled(request.id):
                break
            made[request.id] = count + 1
            yield chunk(request.id, 25_000)
        yield chunk(request.id, 0, final=True)

    async def test(place: House) -> None:
        place_of["place"] = place
        slow = place.client.ModelStreamInfer(forever(ask("voice_stream", request_id="slow")))
        await slow.read()
        await until(lambda: place.desk.count("stream", paused=True) == 1)
        [(inside, stopped_at)] = made.items()
        answers = [answer async for answer in place.client.ModelStreamInfer(one_by_one(ask("voice_stream")))]
        assert len(answers) == 400
        # 100 kB a chunk: those unread in the door, and those that the connections hold.
        assert made[inside] == stopped_at < 300
        rest = 0
        while rest + 1 < 400 and (await slow.read()).infer_response.outputs:
            rest += 1
        assert rest + 1 == 400
        slow.cancel()

    run(tmp_path, FakeTriton(stream=stream), test, Limits(unread_bytes=1 << 20))


def test_a_reader_that_never_reads_again_is_given_up(tmp_path: Path) -> None:
    place_of: dict[str, House] = {}

    async def stream(request: pb.ModelInferRequest) -> Answers:
        flags = place_of["place"].desk.flags
        while not flags.cancelled(request.id):
            if flags.paused(request.id):
                await asyncio.sleep(0.01)
            else:
                yield chunk(request.id, 25_000)
        yield chunk(request.id, 0, final=True)

    async def test(place: House) -> None:
        place_of["place"] = place
        call = place.client.ModelStreamInfer(forever(ask("voice_stream")))
        await call.read()
        await until(lambda: place.desk.count("stream", paused=True) == 1)
        await until(lambda: place.desk.count("stream") == 0)
        with pytest.raises(grpc.RpcError) as error:
            while True:
                await call.read()
        assert error.value.code().name == "DEADLINE_EXCEEDED" and "nothing was read for 0.2 s" in error.value.details()

    run(tmp_path, FakeTriton(stream=stream), test, Limits(unread_bytes=1 << 20, patience=0.2))


def test_streams_of_a_dead_model_end_with_the_reason_and_those_of_others_go_on(tmp_path: Path) -> None:
    place_of: dict[str, House] = {}
    triton = FakeTriton(stream=until_cancelled(place_of))

    async def test(place: House) -> None:
        place_of["place"] = place
        dying = place.client.ModelStreamInfer(forever(ask("voice_stream")))
        await dying.read()
        other = place.client.ModelStreamInfer(forever(ask("voice", request_id="other")))
        await other.read()
        place.desk.lose("the process of voice_stream was killed", frozenset({"voice_stream"}))
        with pytest.raises(grpc.RpcError) as error:
            await dying.read()
        assert (error.value.code().name, error.value.details()) == (
            "UNAVAILABLE", "the process of voice_stream was killed; try again"
        )  # fmt: skip
        await until(lambda: place.desk.count("stream") == 0)
        assert place.desk.count("whole") == 1
        other.cancel()
        await until(lambda: place.desk.count("whole") == 0)

    run(tmp_path, triton, test)


def test_an_error_in_a_stream_frees_the_place_and_keeps_the_clients_id(tmp_path: Path) -> None:
    async def stream(request: pb.ModelInferRequest) -> Answers:
        yield pb.ModelStreamInferResponse(error_message="INVALID_ARGUMENT: speed: is 9")

    async def test(place: House) -> None:
        answers = [answer async for answer in place.client.ModelStreamInfer(one_by_one(ask("voice_stream")))]
        assert [(a.error_message, a.infer_response.id) for a in answers] == [("INVALID_ARGUMENT: speed: is 9", "mine")]
        assert place.desk.count("stream") == 0

    run(tmp_path, FakeTriton(stream=stream), test)


def test_a_triton_that_ends_in_the_middle_is_an_error_not_an_end(tmp_path: Path) -> None:
    async def stream(request: pb.ModelInferRequest) -> Answers:
        yield chunk(request.id)
        raise RuntimeError("killed")

    async def test(place: House) -> None:
        call = place.client.ModelStreamInfer(forever(ask("voice_stream")))
        await call.read()
        with pytest.raises(grpc.RpcError) as error:
            await call.read()
        assert error.value.code().name in ("UNAVAILABLE", "INTERNAL")
        assert place.desk.count("stream") == 0

    run(tmp_path, FakeTriton(stream=stream), test)
