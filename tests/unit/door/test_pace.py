"""The measured speed, on a clock that the test moves."""

from __future__ import annotations

from tritone.door.pace import DOWN, ROOM, Pace


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def window(pace: Pace, clock: Clock, made: float, streams: int, others: int = 0) -> None:
    """Let a second pass in which so many seconds of speech were made."""
    pace.made(made)
    clock.now += 1.0
    pace.tick(streams, others)


def test_more_speech_raises_the_speed_at_once() -> None:
    clock = Clock()
    pace = Pace(2.0, clock=clock)
    window(pace, clock, made=10.0, streams=1)
    assert pace.speed == 10.0 and pace.streams == int(10 * ROOM)


def test_less_speech_under_load_lowers_it_slowly() -> None:
    clock = Clock()
    pace = Pace(10.0, clock=clock)
    window(pace, clock, made=5.0, streams=8)
    assert pace.speed == 10.0 - DOWN * 5.0


def test_less_speech_of_an_idle_machine_tells_nothing() -> None:
    clock = Clock()
    pace = Pace(10.0, clock=clock)
    window(pace, clock, made=1.0, streams=2)
    window(pace, clock, made=0.0, streams=0)
    assert pace.speed == 10.0


def test_the_share_of_whole_utterances_counts_as_speed() -> None:
    clock = Clock()
    pace = Pace(1.0, clock=clock)
    window(pace, clock, made=4.0, streams=2, others=2)
    assert pace.speed == 8.0


def test_a_slow_machine_still_serves_one_and_a_fixed_number_is_kept() -> None:
    assert Pace(0.3).streams == 1
    clock = Clock()
    pace = Pace(1.0, fixed=3, clock=clock)
    window(pace, clock, made=50.0, streams=3)
    assert pace.streams == 3
