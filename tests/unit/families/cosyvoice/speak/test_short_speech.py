"""Speech of a few tokens, shorter than the stages take: it is padded, and sounds as it would without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.stream_helpers import Opened, opened, random_voice

from tritone.families.cosyvoice.flow.speed import SpeedStream, at_speed
from tritone.families.cosyvoice.speak.stream import Synthesizer
from tritone.families.cosyvoice.speak.whole import render, vocode
from tritone.families.cosyvoice.vocoder.source import harmonics
from tritone.stage import Arrays, Axis


@pytest.fixture(scope="module", params=[1, 2, 3])
def tiny(request: pytest.FixtureRequest) -> Opened:
    tiny = opened(request.getfixturevalue(f"tiny_v{request.param}"))
    return tiny._replace(config=tiny.configured(steps=2))


def strict(tiny: Opened) -> Any:
    """Return the call of an engine that takes no fewer positions than its stages declare."""

    def call(name: str, **arrays: np.ndarray) -> Arrays:
        for tensor in tiny.stages[name].inputs:
            for dim, size in zip(tensor.shape, arrays[tensor.name].shape, strict=True):
                assert not isinstance(dim, Axis) or size >= dim.lo, (name, tensor.name, size)
        return tiny.call(name, **arrays)

    return call


def mel_of(frames: int) -> np.ndarray:
    return np.random.default_rng(frames).standard_normal((1, 80, frames)).astype(np.float32) - 5


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_mel_of_few_frames_becomes_what_the_networks_make_of_it_alone(tiny: Opened, frames: int) -> None:
    mel, config = mel_of(frames), tiny.config.hift
    alone: Arrays = {"mel": mel, "mel_len": np.array([frames], np.int32)}
    source = harmonics(tiny.call("f0_predictor", **alone)["f0"][0], config, 7)[None]
    expected = tiny.call("vocoder", **alone, harmonics=source)["waveform"][0]
    (found,) = vocode(strict(tiny), config, [mel], [7])
    assert found.shape == expected.shape == (frames * config.hop,)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_a_few_tokens_at_the_highest_speed_are_spoken_whole_and_streamed(tiny: Opened, tokens: int) -> None:
    call, voice = strict(tiny), random_voice(0)
    (mel,) = render(call, tiny.config, [(list(range(tokens)), voice)])
    spoken = at_speed(mel, 2.0)
    assert spoken.shape[2] == max(1, mel.shape[2] // 2)
    (whole,) = vocode(call, tiny.config.hift, [spoken], [0])
    assert whole.shape == (spoken.shape[2] * tiny.config.hift.hop,)
    streamed = np.concatenate(list(Synthesizer(call, tiny.stages, tiny.config).waveform(range(tokens), voice, 0, 2.0)))
    assert streamed.shape == whole.shape and np.isfinite(streamed).all()


def test_one_frame_at_double_speed_stays_one_and_none_stays_none() -> None:
    assert np.array_equal(at_speed(mel_of(1), 2.0), mel_of(1))
    assert at_speed(mel_of(0), 2.0).shape == (1, 80, 0)
    cut = SpeedStream(2.0)
    parts = [cut.push(mel_of(1)), cut.push(np.zeros((1, 80, 0), np.float32), last=True)]
    assert np.array_equal(np.concatenate(parts, axis=2), mel_of(1))
