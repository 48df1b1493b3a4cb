"""Loops, speech without end and no speech: found, tried again once, and told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice

import numpy as np
import pytest

from tritone.families.cosyvoice.config.common import LmConfig
from tritone.lm.guard import SIGNS, Runaway, another, guarded
from tritone.lm.sampling import SamplingConfig, seeded_draw, tokens

SPEECH = list(range(1000, 1040))
LOOP = [7, 8, 9]


class Model:
    """Says one of its speeches after the other, endless where it has "loop", and remembers how it was asked."""

    def __init__(self, *speeches: Sequence[int], loops: int = 0) -> None:
        self.speeches, self.loops = speeches, loops
        self.asked: list[tuple[list[int], int]] = []
        self.drawn = 0

    def __call__(self, spoken: Sequence[int], seed: int) -> Iterator[int]:
        index = len(self.asked)
        self.asked.append((list(spoken), seed))
        for code in self.speeches[index]:
            self.drawn += 1
            yield code
        if index < self.loops:
            for code in cycle(LOOP):
                self.drawn += 1
                yield code


def heard(model: Model, most: int = 1000, seed: int = 3) -> list[int]:
    return list(guarded(model, seed, 10, most, lambda: False))


def test_speech_passes_as_it_comes() -> None:
    model = Model(SPEECH)
    stream = guarded(model, 3, 10, 1000, lambda: False)
    for count, code in enumerate(SPEECH, 1):
        assert next(stream) == code and model.drawn == count
    assert list(stream) == [] and model.asked == [([], 3)]


def test_a_pause_of_two_seconds_is_no_loop_and_is_spoken() -> None:
    speech = SPEECH + [1, 2] * 25 + SPEECH
    model = Model(speech)
    assert heard(model) == speech and len(model.asked) == 1


def test_a_loop_is_taken_back_and_another_seed_goes_on_from_before_it() -> None:
    model = Model(SPEECH, [5, 6], loops=1)
    found = heard(model)
    (first, seed), (before, other) = model.asked
    assert (first, seed, other) == ([], 3, another(3)) and seed != other
    assert before == SPEECH
    # Tokens passed on before the loop was recognised stay; the rest of the loop is dropped.
    loop = found[len(SPEECH) : -2]
    assert found[: len(SPEECH)] == SPEECH and found[-2:] == [5, 6] and set(loop) <= set(LOOP)
    assert len(loop) < SIGNS.doubt < model.drawn - len(SPEECH) - 2


def test_a_loop_of_many_ids_is_found_too() -> None:
    noisy = np.random.default_rng(0).integers(0, SIGNS.loop_ids, 500).tolist()
    model = Model(SPEECH + noisy, [])
    assert heard(model)[: len(SPEECH)] == SPEECH
    assert len(model.asked) == 2 and model.drawn <= len(SPEECH) + SIGNS.loop


def test_a_second_loop_is_an_error() -> None:
    model = Model(SPEECH, SPEECH, loops=2)
    with pytest.raises(
        Runaway, match=r"repeated itself after \d+ speech tokens \(75 tokens of at most 15 kinds\), and "
    ):
        heard(model)
    assert len(model.asked) == 2


def test_no_speech_is_tried_once_more() -> None:
    model = Model([], SPEECH)
    assert heard(model) == SPEECH and [seed for _, seed in model.asked] == [3, another(3)]
    with pytest.raises(Runaway, match="gave no speech, and none with another seed; try a third or another text"):
        heard(Model([], []))


def test_speech_that_does_not_end_is_an_error_not_a_cut() -> None:
    long = list(range(200))
    with pytest.raises(Runaway, match="did not stop within 200 speech tokens for 10 text tokens; try another seed"):
        heard(Model(long), most=200)
    assert heard(Model(long[:199]), most=200) == long[:199]


def test_a_very_short_text_may_reach_its_limit() -> None:
    assert heard(Model(SPEECH), most=len(SPEECH)) == SPEECH


def test_a_cancelled_sequence_is_neither_tried_again_nor_an_error() -> None:
    model = Model([])
    assert list(guarded(model, 3, 10, 1000, lambda: True)) == [] and len(model.asked) == 1


class Stuck:
    """A session that gives one code almost all the mass; `ends` says after how many it stops, if at all."""

    def __init__(self, ends: int | None = None) -> None:
        self.ends, self.steps = ends, 0

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        return self._logits()

    def step(self, token: int) -> np.ndarray:
        self.steps += 1
        return self._logits()

    def close(self) -> None:
        pass

    def _logits(self) -> np.ndarray:
        logits = np.zeros(101, np.float32)
        logits[100 if self.steps == self.ends else 5] = 30
        return logits


@pytest.mark.parametrize(("window", "loops"), [(0, True), (10, False)])
def test_with_a_cpu_engine_it_catches_what_repetition_aware_sampling_avoids(window: int, loops: bool) -> None:
    """A stuck model under one nucleus: looping without the second draw, never with it."""
    config = LmConfig(8, 100, 1, sampling=SamplingConfig(win_size=window), min_token_text_ratio=10)

    def attempt(spoken: Sequence[int], seed: int) -> Iterator[int]:
        prompt = [101, 103, 102, *spoken]
        return tokens(Stuck(ends=200), prompt, 20, config, seeded_draw(seed))

    speech = guarded(attempt, 1, 20, 400, lambda: False)
    if loops:
        with pytest.raises(Runaway, match="repeated itself after 0 speech tokens"):
            list(speech)
    else:
        found = list(islice(speech, 400))
        assert len(found) == 200 and len(set(found)) > SIGNS.loop_ids
