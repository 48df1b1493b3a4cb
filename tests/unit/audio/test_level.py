"""Sound that is none: what recordings and answers may not be, alone, as a stream, and through a loaded checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tritone.audio.level import checked_chunks, checked_waveform, rate_problem, recording_problem
from tritone.errors import TritoneError
from tritone.lm.description import NoLm
from tritone.load import Model
from tritone.stage import Family, Host, Tensor

TONE = (0.3 * np.sin(np.arange(16000) * 0.1)).astype(np.float32)
NOISE = np.random.default_rng(0).normal(0, 1, 16000).astype(np.float32)


def filled(value: float, size: int = 2400) -> np.ndarray:
    return np.full(size, value, np.float32)


def test_recordings_that_carry_a_voice() -> None:
    quiet = np.concatenate([filled(0, 64000), 0.01 * TONE[:2400]])  # four seconds of silence before a quiet word
    for wav in (TONE, TONE + 0.6, np.clip(8 * TONE, -1, 1), quiet, TONE * 6, 0.01 * NOISE, TONE.astype(np.float64)):
        assert recording_problem(wav, 16000) == ""
    assert rate_problem(16000) == ""


@pytest.mark.parametrize(
    ("wav", "problem"),
    [
        (TONE[:0], "is empty: it has no samples"),
        (np.where(np.arange(16000) == 7, np.nan, TONE), "contains NaN or infinite samples"),
        (np.where(np.arange(16000) == 7, -np.inf, TONE), "contains NaN or infinite samples"),
        (TONE * 32768, "reaches 9830.*, but samples lie between -1 and 1; .* divide them by 32768"),
        (np.where(np.arange(16000) == 7, 1e38, TONE).astype(np.float32), r"reaches 1e\+38"),
        (TONE * 0, "is silent: no sample exceeds 0.001 of full scale"),
        (filled(0.8), "is silent"),
        (1e-5 * NOISE, "is silent"),
        (np.where(np.arange(16000) == 7, 0.9, 0), r"is nearly silent: 0\.02 s of it exceed 0\.001 .*; speech needs 0"),
        (np.where(np.arange(16000) < 1000, TONE, 1e-4 * NOISE), r"is nearly silent: 0\.08 s"),
    ],
)  # fmt: skip
def test_recordings_that_carry_none(wav: np.ndarray, problem: str) -> None:
    import re

    assert re.match(problem, recording_problem(wav, 16000))
    assert rate_problem(8000) == "is sampled at 8000 Hz; record it at 16000 Hz or more"


@pytest.mark.parametrize(
    ("chunks", "sent", "message"),
    [
        ([TONE, filled(np.nan), TONE], 1, "the next chunk has NaN or infinite numbers, so it is not sent, and the str"),
        ([TONE, filled(-9.0)], 1, "the next chunk reaches 9, where full scale is 1 and at most 2 is sent"),
        ([filled(0), filled(9e-5)], 2, "the stream is silent: no sample exceeds 0.0001 of full scale, though speech"),
        ([], 0, "the stream has no samples, though speech was asked for; `tritone parity` finds the network at fault"),
    ],
)
def test_a_stream_that_is_no_speech(chunks: list[np.ndarray], sent: int, message: str) -> None:
    received = []
    with pytest.raises(TritoneError, match=message):
        for chunk in checked_chunks(chunks):
            received.append(chunk)
    assert len(received) == sent


def test_a_pause_is_speech_and_whoever_leaves_in_it_has_no_error() -> None:
    assert len(list(checked_chunks([filled(0), TONE, filled(0)]))) == 3
    assert len(list(checked_chunks([filled(0)], lambda: True))) == 1


@pytest.mark.parametrize(("wave", "problem"), [(filled(np.inf), "has NaN"), (filled(0), "is silent"), (TONE, "")])
def test_a_loaded_checkpoint_gives_speech_or_an_error(wave: np.ndarray, problem: str) -> None:
    def synthesize(*_request: Any) -> Iterator[np.ndarray]:
        yield wave[None]

    text, sound = Tensor("target_text", "bytes", (1, 1)), Tensor("waveform", "float32", (1, 2400))
    host = Host("speak", (text,), (sound,), lambda *_request: [{"waveform": wave[None]}])
    for hosts in ((host,), ()):
        model = Model(
            Family("toy", (), NoLm(), (text,), (sound,), synthesize, hosts, {"sample_rate": 16000}), None, None
        )
        for speak in (model.synthesize, lambda said, model=model: np.concatenate(list(model.stream(said)))):
            if problem:
                with pytest.raises(TritoneError, match=problem):
                    speak("Hello.")
            else:
                assert np.array_equal(speak("Hello."), wave)
    if problem:
        with pytest.raises(TritoneError, match=f"the answer's waveform {problem}"):
            checked_waveform(wave)
