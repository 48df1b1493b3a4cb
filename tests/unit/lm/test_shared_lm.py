"""One decoding loop for many listeners: each hears what it hears alone, whoever joins, leaves, pauses or fails."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.moss_helpers import write_checkpoint

from tritone.engines.torch import torch_call
from tritone.families.moss_ttsd.checkpoint import MossCheckpoint, open_checkpoint
from tritone.families.moss_ttsd.family import family
from tritone.families.moss_ttsd.lm.config import ChannelSampling
from tritone.families.moss_ttsd.lm.delay import delayed
from tritone.families.moss_ttsd.lm.generate import Draw, RowSession
from tritone.lm.description import StageLm
from tritone.lm.sampling import seeded_draw
from tritone.lm.shared import Closed, SharedLm, SharedRows
from tritone.stage import Arrays


class Toy:
    """A sequence's state is all of its rows, and its logits are a number made of them.

    It takes three rows of a prompt at a time.
    """

    def __init__(self) -> None:
        self.group: list[tuple[int, ...]] = []
        self.sizes: list[int] = []
        self.done: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.broken = 0

    def prefill(self, prompt: tuple[int, ...], state: tuple[int, ...] | None) -> tuple[int | None, tuple[int, ...]]:
        if not prompt:
            raise ValueError("an empty prompt")
        now = prompt[: len(state or ()) + 3]
        self.done.append(f"prompt of {prompt[0]}")
        return (digest(now) if now == prompt else None), now

    def step(self, rows: Sequence[int]) -> list[int]:
        self.gate.wait(10)
        if self.broken:
            self.broken -= 1
            raise RuntimeError("out of memory")
        self.sizes.append(len(rows))
        self.done.append(f"step of {len(rows)}")
        self.group = [(*state, row) for state, row in zip(self.group, rows, strict=True)]
        return [digest(state) for state in self.group]

    def state(self, place: int) -> tuple[int, ...]:
        return self.group[place]

    def regroup(self, kept: Sequence[int], joining: Sequence[tuple[int, ...]]) -> None:
        self.group = [*(self.group[place] for place in kept), *joining]


class Counting:
    """So many rows, each its logits."""

    def __init__(self, first: int, rows: int, fails_at: int = -1, prompt: int = 2) -> None:
        self.prompt: tuple[int, ...] = tuple(range(first, first + prompt))
        self.over, self._left, self._fails_at = False, rows, fails_at

    def next(self, logits: int) -> int:
        self._left -= 1
        if self._left == self._fails_at:
            raise ZeroDivisionError("no such id")
        self.over = self._left == 0
        return logits


def digest(state: tuple[int, ...]) -> int:
    return sum(place * row for place, row in enumerate(state, 1)) % 100003


def alone(first: int, rows: int, prompt: int = 2) -> list[int]:
    state = tuple(range(first, first + prompt))
    for _ in range(rows):
        state = (*state, digest(state))
    return list(state[prompt:])


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_all_share_every_step_and_the_thread_ends_with_them() -> None:
    engine, before = Toy(), threading.active_count()
    lm = SharedLm(engine, 4)
    engine.gate.clear()
    heard = [lm.rows(Counting(first, 20), None) for first in (3, 50, 7)]
    engine.gate.set()
    assert [list(one) for one in heard] == [alone(first, 20) for first in (3, 50, 7)]
    assert max(engine.sizes) == 3 and len(engine.sizes) <= 19 + 2, "one joins with each step"
    until(lambda: threading.active_count() == before)
    assert engine.group == []
    assert list(lm.rows(Counting(3, 5))) == alone(3, 5), "another thread does the next"


def test_a_long_prompt_stops_nobody() -> None:
    """Between two steps of those that speak there is one part of one prompt, however many wait, and nothing is lost."""
    engine = Toy()
    lm = SharedLm(engine, 4)
    engine.gate.clear()
    speaking = lm.rows(Counting(1, 60), None)
    until(lambda: len(engine.done) == 1)  # its own prompt
    long, longer = (lm.rows(Counting(first, 5, prompt=rows), None) for first, rows in ((100, 31), (500, 60)))
    engine.gate.set()
    assert list(speaking) == alone(1, 60)
    assert (list(long), list(longer)) == (alone(100, 5, 31), alone(500, 5, 60))
    parts = [f"prompt of {first}" for first, count in ((100, 11), (500, 20)) for _ in range(count)]
    assert engine.done[2 : 2 + 2 * len(parts) : 2] == parts and engine.done[1] == "step of 1"
    assert all(done.startswith("step") for done in engine.done[3 : 2 + 2 * len(parts) : 2])


def test_who_leaves_during_its_prompt_is_forgotten_there() -> None:
    engine = Toy()
    lm = SharedLm(engine, 4)
    engine.gate.clear()
    speaking = lm.rows(Counting(1, 60), None)
    until(lambda: len(engine.done) == 1)
    leaving = lm.rows(Counting(100, 5, prompt=3000), None)
    engine.gate.set()
    until(lambda: "prompt of 100" in engine.done)
    leaving.close()
    assert list(speaking) == alone(1, 60) and list(lm.rows(Counting(7, 5))) == alone(7, 5)
    assert engine.done.count("prompt of 100") < 1000 and max(engine.sizes) == 1


def test_no_more_than_fit_are_decoded_at_once() -> None:
    engine = Toy()
    lm = SharedLm(engine, 2)
    engine.gate.clear()
    heard = [lm.rows(Counting(first, 30 + first), None) for first in range(5)]
    engine.gate.set()
    assert [list(one) for one in heard] == [alone(first, 30 + first) for first in range(5)]
    assert max(engine.sizes) == 2 and len(engine.sizes) < 110, "of 155 rows after a prompt's"


def test_who_does_not_read_pauses_alone_and_loses_nothing() -> None:
    engine = Toy()
    lm = SharedLm(engine, 4)
    engine.gate.clear()
    fast, slow = lm.rows(Counting(5, 100), ahead=None), lm.rows(Counting(9, 100), ahead=8)
    engine.gate.set()
    assert list(fast) == alone(5, 100)
    first = next(slow)
    steps = len(engine.sizes)
    assert steps < 130 and engine.sizes[-1] == 1, "the fast one went on alone"
    time.sleep(0.1)
    assert len(engine.sizes) <= steps + 2, "the loop does not run ahead of one that is not read"
    together = lm.rows(Counting(5, 40), ahead=None)
    assert [first, *slow] == alone(9, 100)
    assert list(together) == alone(5, 40)


def test_those_that_pause_go_on_together() -> None:
    engine = Toy()
    lm = SharedLm(engine, 4)
    heard = [lm.rows(Counting(first, 400), ahead=8) for first in (1, 2)]
    for one in heard:
        until(lambda one=one: not one.room())  # type: ignore[misc]
    engine.sizes.clear()
    assert [list(rows) for rows in zip(*zip(*heard, strict=True), strict=True)] == [alone(1, 400), alone(2, 400)]
    assert len(engine.sizes) < 600, "of 784 rows"


def test_a_paused_sequence_keeps_nobody_waiting() -> None:
    lm = SharedLm(Toy(), 1)
    unread = [lm.rows(Counting(first, 50), ahead=4) for first in range(3)]
    assert list(lm.rows(Counting(7, 50))) == alone(7, 50)
    assert [list(one) for one in reversed(unread)] == [alone(first, 50) for first in (2, 1, 0)]


def test_errors_end_those_they_concern_and_the_loop_goes_on() -> None:
    engine = Toy()
    lm = SharedLm(engine, 4)
    good, failing, empty = lm.rows(Counting(1, 40), None), lm.rows(Counting(2, 40, fails_at=30), None), Counting(3, 40)
    empty.prompt = ()
    refused = lm.rows(empty)
    heard: list[int] = []
    with pytest.raises(ZeroDivisionError, match="no such id"):
        heard.extend(one for one in failing)
        pytest.fail("it had more to say")
    with pytest.raises(ValueError, match="an empty prompt"):
        next(refused)
    assert list(good) == alone(1, 40)


def test_a_step_that_fails_ends_all_with_its_error_and_the_next_is_heard() -> None:
    engine = Toy()
    lm = SharedLm(engine, 2)
    engine.gate.clear()
    heard = [lm.rows(Counting(first, 40), None) for first in range(3)]
    engine.broken = 1
    engine.gate.set()
    for one in heard:
        with pytest.raises(RuntimeError, match="out of memory"):
            list(one)
    assert list(lm.rows(Counting(4, 9))) == alone(4, 9)


def test_who_leaves_is_not_decoded_any_more() -> None:
    engine, gone = Toy(), False
    lm = SharedLm(engine, 4)
    stays, leaves = lm.rows(Counting(1, 1000), ahead=4), lm.rows(Counting(2, 1000), ahead=4)
    cancelled = lm.rows(Counting(3, 1000), ahead=4, cancelled=lambda: gone)
    heard = [(next(stays), next(leaves), next(cancelled)) for _ in range(20)]
    assert heard == list(zip(alone(1, 20), alone(2, 20), alone(3, 20), strict=True))
    leaves.close()
    gone = True
    assert list(cancelled) == [] and list(leaves) == []
    engine.sizes.clear()
    assert [next(stays) for _ in range(50)] == alone(1, 70)[20:]
    assert max(engine.sizes[3:]) == 1
    assert len(engine.group) == 1, "what left is not kept"
    lm.close()
    with pytest.raises(Closed, match="closed before all speech was decoded"):
        list(stays)
    assert "lm" not in [thread.name for thread in threading.enumerate()]


def test_a_process_ends_while_somebody_could_still_listen() -> None:
    code = """
import time
from test_shared_lm import Counting, Toy
from tritone.lm.shared import SharedLm
engine = Toy()
def slowly(rows, step=engine.step):
    found = step(rows)
    print("computing", flush=True)
    time.sleep(0.3)
    print("computed", flush=True)
    return found
engine.step = slowly
lm = SharedLm(engine, 4)
heard = lm.rows(Counting(1, 100000), None), lm.rows(Counting(1, 100000), 2)
print(next(heard[0]), flush=True)
time.sleep(0.1)
"""
    tests = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tests.parent,
        env={"PYTHONPATH": f"{tests}:{Path(__file__).parent}:{tests.parent}", "PATH": "/usr/bin"},
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.split()[-1] == "computed", "no thread is inside an engine when the interpreter goes away"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MossCheckpoint:
    return open_checkpoint(write_checkpoint(tmp_path_factory.mktemp("moss")))


def test_a_dialogue_is_what_it_is_alone_whoever_joins_and_leaves(checkpoint: MossCheckpoint) -> None:
    """Sequences of several lengths and samplings begin at several rows of the first; one is left, one fails."""
    config, sizes = checkpoint.config.lm, list[int]()
    inner, described = torch_call(family(checkpoint.folder).stages), family(checkpoint.folder)
    assert isinstance(described.lm, StageLm)

    def call(stage: str, **arrays: np.ndarray) -> Arrays:
        sizes.append(len(arrays["padding"]))
        return inner(stage, **arrays)

    lm: Any = described.lm.open(call)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    warm, greedy = ChannelSampling(True, 1.5, 50, 0.9, 1.2), ChannelSampling(False, repetition_penalty=1.3)
    mixed = [warm if channel % 2 else ChannelSampling(top_k=20, top_p=0.7) for channel in range(8)]
    ending = [ChannelSampling(top_p=0.7)] * 8
    chosen = [([warm] * 8, 25, 90), ([greedy] * 8, 60, 50), (mixed, 8, 70), (checkpoint.config.sampling, 33, 40)]
    chosen.append((ending, 50, 200))
    prompts = []
    for _, length, _ in chosen:
        frames = rng.integers(0, 1024, (length, 8))
        frames[:, 0] += rng.integers(0, config.speech_tokens[0] - 1024)
        prompts.append(delayed(frames, config.pads))

    def begin(one: int, draw: Draw | None = None) -> SharedRows:
        sampling, length, rows = chosen[one]
        heard: SharedRows = lm.rows(
            RowSession(prompts[one], config, sampling, draw or seeded_draw(one), length + rows), ahead=16
        )
        return heard

    wanted = [np.stack(list(begin(one))) for one in range(len(chosen))]
    assert set(sizes) == {1} and [len(one) for one in wanted] == [90, 50, 70, 40, 7], "the last ends by itself"

    count = 0

    def faulty(chances: np.ndarray) -> int:
        nonlocal count
        count += 1
        if count == 100:
            raise ArithmeticError("a fault of one draw")
        return seeded_draw(1)(chances)

    sizes.clear()
    first = begin(0)
    found: dict[int, Any] = {0: [next(first) for _ in range(9)]}
    left, failing, second = begin(2, seeded_draw(77)), begin(3, faulty), begin(1)
    with pytest.raises(ArithmeticError, match="a fault of one draw"):
        list(failing)
    for _ in range(5):
        next(left)
    with ThreadPoolExecutor(4) as pool:
        reading = {1: pool.submit(list, second)}
        left.close()
        found[0] += [next(first) for _ in range(20)]
        reading |= {one: pool.submit(list, begin(one)) for one in (2, 3, 4)}
        found |= {one: task.result() for one, task in reading.items()}
    found[0] += list(first)
    for one, rows in enumerate(wanted):
        assert np.array_equal(np.stack(found[one]), rows)
    assert max(sizes) >= 3
