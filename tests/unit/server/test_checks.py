"""Host steps that are called alone refuse what no earlier step would send; answers without numbers are not sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tritone.errors import InvalidRequest, TritoneError
from tritone.server.checks import checked_answer, finite, request_problem
from tritone.stage import Arrays, Axis, Scaled, Tensor

FRAMES, IDS, PARTS = Axis("frames", 1, 20, 100), Axis("ids", 0, 5, 50), Axis("parts", 0, 1, 9)
INPUTS = (
    Tensor("mel", "float32", (1, 4, FRAMES)),
    Tensor("wave", "float32", (1, Scaled(3, FRAMES))),
    Tensor("id", "int64", (1, IDS), allowed=(0, 99)),
    Tensor("id_len", "int64", (1, PARTS), length_of=IDS),
    Tensor("speed", "float32", (1, 1), allowed=(0.5, 2.0)),
    Tensor("seed", "int64", (1, 1), optional=True, allowed=(0, 2**62)),
    Tensor("text", "bytes", (1, 1), optional=True),
)


def good(**change: Any) -> Arrays:
    request = {
        "mel": np.zeros((1, 4, 7), np.float32),
        "wave": np.zeros((1, 21), np.float32),
        "id": np.array([[0, 99, 5]]),
        "id_len": np.array([[1, 0, 2]]),
        "speed": np.ones((1, 1), np.float32),
    }
    return {name: value for name, value in (request | change).items() if value is not None}


def floats(*shape: int, fill: float = 0.0) -> np.ndarray:
    return np.full(shape, fill, np.float32)


def test_what_is_declared_is_taken() -> None:
    assert request_problem(INPUTS, good()) is None
    empty = good(id=np.zeros((1, 0), np.int64), id_len=np.zeros((1, 0), np.int64), text=np.array([[b"a"]], object))
    assert request_problem(INPUTS, empty) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mel": None}, "mel: is missing"),
        ({"mel": np.zeros((1, 4, 7))}, r"mel: is float64 \[1, 4, 7\]; the step takes float32 \[1, 4, frames\]"),
        ({"mel": floats(1, 28)}, r"mel: is float32 \[1, 28\]"),
        ({"mel": floats(1, 5, 7)}, r"mel: has 5 where the step takes float32 \[1, 4, frames\]"),
        ({"mel": floats(1, 4, 0)}, "mel: has 0 frames; the step takes 1 to 100"),
        ({"mel": floats(1, 4, 101)}, "mel: has 101 frames; the step takes 1 to 100"),
        ({"wave": floats(1, 303)}, "wave: has 303 frames; the step takes 3 to 300"),
        ({"wave": floats(1, 22)}, "wave: has a size that is no multiple of 3"),
        ({"wave": floats(1, 24)}, "wave: has 8 frames, but another input has 7"),
        ({"mel": floats(1, 4, 7, fill=np.nan)}, "mel: has NaN or infinite numbers"),
        ({"mel": floats(1, 4, 7, fill=-np.inf)}, "mel: has NaN or infinite numbers"),
        ({"id": np.array([[0, -1, 5]])}, "id: has -1; the range is 0 to 99"),
        ({"id": np.array([[0, 100, 5]])}, "id: has 100; the range is 0 to 99"),
        ({"id_len": np.array([[1, 3]])}, "id_len: has lengths that are not the parts of 3 ids"),
        ({"id_len": np.array([[-1, 4]])}, "id_len: has lengths that are not the parts of 3 ids"),
        ({"id_len": np.array([[2**62, 2**62, 2**62, 2**62, 3]])}, "id_len: has lengths that are not the parts"),
        ({"speed": floats(1, 1, fill=-1)}, "speed: has -1; the range is 0.5 to 2"),
        ({"speed": floats(1, 1, fill=1e30)}, r"speed: has 1e\+30; the range is 0.5 to 2"),
        ({"seed": np.array([[-5]])}, r"seed: has -5; the range is 0 to 4.61169e\+18"),
        ({"text": floats(1, 1)}, r"text: is float32 \[1, 1\]; the step takes bytes \[1, 1\]"),
    ],
)
def test_what_no_step_would_send_is_named(change: dict[str, Any], message: str) -> None:
    problem = request_problem(INPUTS, good(**change))
    assert isinstance(problem, InvalidRequest)
    with pytest.raises(InvalidRequest, match=f"INVALID_ARGUMENT: {message}"):
        raise problem


def test_inputs_that_a_step_checks_itself_are_left_to_it() -> None:
    assert request_problem(INPUTS, good(mel=None, speed=floats(1, 1, fill=-1)), ("mel", "speed")) is None


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_no_sound_is_an_error(wrong: float) -> None:
    sound = np.zeros((1, 24000), np.float32)
    assert checked_answer({"waveform": sound, "id": np.ones(3, np.int64)})["waveform"] is sound
    sound[0, 12345] = wrong
    error = checked_answer({"waveform": sound})
    assert isinstance(error, TritoneError)
    assert str(error).startswith(
        "the answer's waveform has NaN or infinite numbers, so it is not sent; `tritone parity`"
    )
    assert checked_answer(error) is error and checked_answer({"waveform": sound[:, :0]})


@pytest.mark.parametrize(
    ("wave", "problem"),
    [
        (floats(1, 900), "is silent: no sample exceeds 0.0001 of full scale, though speech was asked for"),
        (floats(1, 900, fill=5e-5), "is silent"),
        (floats(1, 0), "has no samples, though speech was asked for"),
        (floats(1, 900, fill=-32768.0), "reaches 32768, where full scale is 1 and at most 2 is sent"),
    ],
)
def test_a_waveform_that_is_no_speech_is_an_error(wave: np.ndarray, problem: str) -> None:
    assert checked_answer({"waveform": wave})["waveform"] is wave  # a step's output of that name that is no answer
    error = checked_answer({"waveform": wave}, ["waveform"])
    assert isinstance(error, TritoneError) and str(error).startswith(f"the answer's waveform {problem}")
    assert not isinstance(checked_answer({"waveform": floats(1, 9, fill=-1.3)}, ["waveform"]), Exception)


def test_large_numbers_are_finite() -> None:
    assert finite(np.full(10_000, 3e38, np.float32)) and finite(np.full(9, 60000, np.float16))
    assert not finite(np.array([np.inf, -np.inf], np.float32)) and finite(np.zeros(0, np.float32)) and finite(None)
