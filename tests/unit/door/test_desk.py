"""Admission: who is let in, who waits, who is refused, and when a place is free again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.door_helpers import ENTRIES, new_desk, until

from tritone.door.desk import Desk
from tritone.door.limits import Limits
from tritone.door.refusal import Refused

WHOLE, STREAM, SERVICE = ENTRIES["voice"], ENTRIES["voice_stream"], ENTRIES["tokens"]


async def hold(desk: Desk, stack: AsyncExitStack, count: int, text: int = 10) -> None:
    """Let so many whole utterances in."""
    for _ in range(count):
        await stack.enter_async_context(desk.admit(WHOLE, text))


def test_streams_are_admitted_up_to_the_measured_speed(tmp_path: Path) -> None:
    async def test() -> None:
        desk = new_desk(tmp_path, speed=5.0)  # four streams with the room that is kept
        async with AsyncExitStack() as stack:
            for _ in range(4):
                await stack.enter_async_context(desk.admit(STREAM))
            with pytest.raises(Refused, match=r"^BUSY: 4 requests are being spoken.*real time; try again later$"):
                async with desk.admit(STREAM):
                    pass
        async with desk.admit(STREAM):
            assert desk.count("stream") == 1

    asyncio.run(test())


def test_a_paused_stream_leaves_its_place_to_another_up_to_the_limit_of_open_ones(tmp_path: Path) -> None:
    async def test() -> None:
        desk = new_desk(tmp_path, Limits(streams=1, open_streams=3))
        async with AsyncExitStack() as stack:
            for _ in range(3):
                desk.pause(await stack.enter_async_context(desk.admit(STREAM)))
            with pytest.raises(Refused, match="BUSY: 3 streams are open"):
                async with desk.admit(STREAM):
                    pass

    asyncio.run(test())


def test_further_pieces_of_a_text_need_no_place(tmp_path: Path) -> None:
    async def test() -> None:
        desk = new_desk(tmp_path, Limits(streams=1))
        async with desk.admit(STREAM), desk.admit(STREAM, piece=True), desk.admit(STREAM, piece=True):
            assert desk.count("stream") == 1

    asyncio.run(test())


def test_whole_utterances_wait_in_a_line_of_bounded_length(tmp_path: Path) -> None:
    async def test() -> None:
        desk = new_desk(tmp_path, Limits(whole=2, waiting=1))
        async with AsyncExitStack() as stack:
            await hold(desk, stack, 2)
            third = asyncio.create_task(stack.enter_async_context(desk.admit(WHOLE)))
            await until(lambda: desk.metrics.registry.get_sample_value("tritone_waiting_requests") == 1)
            with pytest.raises(Refused, match="BUSY: 1 requests are waiting, which is the limit"):
                async with desk.admit(WHOLE):
                    pass
            third.cancel()
            await asyncio.wait({third})
            assert desk.metrics.registry.get_sample_value("tritone_waiting_requests") == 0
        async with AsyncExitStack() as stack:  # the one that was given up took no place with it
            await hold(desk, stack, 2)

    asyncio.run(test())


def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    async def test() -> None:
        desk = new_desk(tmp_path, Limits(whole=1, waiting_seconds=0.1))
        async with AsyncExitStack() as stack:
            await hold(desk, stack, 1)
            with pytest.raises(Refused, match=r"BUSY: no place became free within 0\.1 s"):
                async with desk.admit(WHOLE):
                    pass

    asyncio.run(test())


def test_long_texts_run_one_at_a_time_and_short_ones_pass_them(tmp_path: Path) -> None:
    async def test() -> None:
        desk = new_desk(tmp_path, Limits(whole=3, long_text=100))
        async with AsyncExitStack() as stack:
            await hold(desk, stack, 1, text=500)
            second = asyncio.create_task(stack.enter_async_context(desk.admit(WHOLE, 500)))
            await until(lambda: desk.metrics.registry.get_sample_value("tritone_waiting_requests") == 1)
            async with desk.admit(WHOLE, 10), desk.admit(SERVICE):
                assert not second.done()
            second.cancel()
            await asyncio.wait({second})

    asyncio.run(test())


def test_too_little_memory_is_busy(tmp_path: Path) -> None:
    async def test() -> None:
        desk = new_desk(tmp_path, memory="this machine has 10 MB of memory left")
        for entry in (WHOLE, STREAM):
            with pytest.raises(Refused, match="BUSY: this machine has 10 MB of memory left"):
                async with desk.admit(entry):
                    pass

    asyncio.run(test())


def test_a_draining_server_admits_nothing_more(tmp_path: Path) -> None:
    async def test() -> None:
        desk = new_desk(tmp_path)
        async with desk.admit(STREAM):
            desk.draining = True
            with pytest.raises(Refused, match="BUSY: the server is about to be started again"):
                async with desk.admit(WHOLE):
                    pass

    asyncio.run(test())


def test_what_happened_is_counted(tmp_path: Path) -> None:
    async def test() -> None:
        desk = new_desk(tmp_path, Limits(streams=1))
        async with desk.admit(STREAM) as ticket:
            desk.spoke(ticket, 150)
            desk.spoke(ticket, 50)
            desk.cancel(ticket)
            with pytest.raises(Refused):
                async with desk.admit(STREAM):
                    pass
        value = desk.metrics.registry.get_sample_value
        model = {"model": "voice_stream"}
        assert value("tritone_requests_total", model) == 1
        assert value("tritone_refused_total", {**model, "status": "UNAVAILABLE"}) == 1
        assert value("tritone_cancelled_total", model) == 1
        assert value("tritone_speech_seconds_total", model) == 2.0
        assert value("tritone_first_sound_seconds_count", model) == 1
        assert value("tritone_active_requests", model) == 0

    asyncio.run(test())
