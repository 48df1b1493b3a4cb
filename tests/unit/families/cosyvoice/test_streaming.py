"""Streamed synthesis equals one pass under the streaming mask, on torch with the tiny checkpoint."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tritone.engines.torch import torch_call
from tritone.families.cosyvoice.checkpoint.folder import load_config
from tritone.families.cosyvoice.family import family
from tritone.families.cosyvoice.flow.noise import noise_frames, published_noise
from tritone.families.cosyvoice.flow.speed import SpeedStream, at_speed
from tritone.families.cosyvoice.flow.stream import FlowStream
from tritone.families.cosyvoice.speak.stream import Synthesizer
from tritone.families.cosyvoice.speak.whole import render, vocode
from tritone.families.cosyvoice.voices.speakers import read_voices
from tritone.families.cosyvoice.voices.voice import Voice


@pytest.fixture(scope="module")
def tiny(tiny_v2: Path) -> tuple:
    model = family(tiny_v2)
    return model, torch_call(model.stages), load_config(tiny_v2), read_voices(tiny_v2).get("a")


@pytest.fixture
def speech() -> list[int]:
    return np.random.default_rng(3).integers(0, 6561, 83).tolist()


def with_prompt(voice: Voice, tokens: int) -> Voice:
    rng = np.random.default_rng(4)
    mel = (rng.standard_normal((2 * tokens, 80)) - 5).astype(np.float32)
    return replace(voice, speech_token=rng.integers(0, 6561, tokens), mel=mel)


@pytest.mark.parametrize(("hop", "prompt", "speed"), [(25, 0, 1.0), (50, 0, 1.0), (75, 31, 1.0), (25, 60, 1.3)])
def test_stream_equals_one_pass(tiny: tuple, speech: list[int], hop: int, prompt: int, speed: float) -> None:
    model, network, config, voice = tiny
    voice = with_prompt(voice, prompt)

    def call(name: str, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        found = network(name, **arrays)
        # The random networks speak at 400 Hz; the phase integrates the rounding of f0, which grows with its level.
        return {"f0": found["f0"] / 4} if name == "f0_predictor" else found

    stages = {stage.name: stage for stage in model.stages}
    chunks = list(Synthesizer(call, stages, config, hop=hop).waveform(iter(speech), voice, seed=7, speed=speed))
    (mel,) = render(call, config, [(speech, voice)], streaming_mask=True)
    (whole,) = vocode(call, config.hift, [at_speed(mel, speed)], [7])
    streamed = np.concatenate(chunks)
    assert len(chunks) > 1 or hop == 75
    assert streamed.shape == whole.shape == (int(2 * len(speech) / speed) * 480,)
    assert np.abs(streamed - whole).max() < 1e-4


def test_the_streaming_mask_matters(tiny: tuple, speech: list[int]) -> None:
    _, call, config, voice = tiny
    (masked,) = render(call, config, [(speech, voice)], streaming_mask=True)
    (full,) = render(call, config, [(speech, voice)])
    assert np.abs(masked - full).max() > 1e-2


def test_work_per_chunk_does_not_grow(tiny: tuple) -> None:
    model, call, config, voice = tiny
    bounded = replace(config, flow=replace(config.flow, encoder=replace(config.flow.encoder, left_chunks=2)))
    seen: list[tuple[str, int]] = []

    def counting(name: str, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        lengths = {"vocoder": "mel", "f0_predictor": "mel"}
        if name in lengths:
            seen.append((name, arrays[lengths[name]].shape[2]))
        return call(name, **arrays)

    stages = {stage.name: stage for stage in model.stages}
    tokens = np.random.default_rng(0).integers(0, 6561, 250).tolist()
    list(Synthesizer(counting, stages, bounded).waveform(iter(tokens), voice, seed=0))
    for name in ("vocoder", "f0_predictor"):
        widths = [width for kind, width in seen if kind == name]
        assert len(widths) >= 9 and max(widths[2:-1]) == min(widths[2:-1])


def test_hop_must_lie_on_the_chunk_grid(tiny: tuple) -> None:
    model, call, config, voice = tiny
    with pytest.raises(ValueError, match="positive multiple of the 25-token chunk, got 30"):
        FlowStream(call, {stage.name: stage for stage in model.stages}, config, voice, 30)


def pieces(frames: int, rng: np.random.Generator) -> Iterator[slice]:
    start = 0
    while start < frames:
        stop = min(frames, start + int(rng.integers(1, 9)))
        yield slice(start, stop)
        start = stop


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.0, 1.25, 2.0])
def test_speed_does_not_depend_on_the_cut(speed: float) -> None:
    rng = np.random.default_rng(5)
    mel = rng.standard_normal((1, 80, 61)).astype(np.float32)
    whole = SpeedStream(speed).push(mel, last=True)
    stream = SpeedStream(speed)
    parts = [stream.push(mel[:, :, piece]) for piece in pieces(61, rng)]
    parts.append(stream.push(mel[:, :, :0], last=True))
    assert whole.shape[2] == int(61 / speed)
    np.testing.assert_array_equal(np.concatenate(parts, axis=2), whole)


def test_speed_interpolates_linearly() -> None:
    ramp = np.arange(40, dtype=np.float32).reshape(1, 1, 40)
    out = SpeedStream(2.0).push(ramp, last=True)
    np.testing.assert_allclose(out[0, 0], np.arange(20) * 2 + 0.5)


def test_noise_is_the_published_one_and_repeats_after_its_end() -> None:
    import torch

    expected = torch.randn(1, 80, 15000, generator=torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(published_noise(), expected, atol=2e-6)
    np.testing.assert_array_equal(noise_frames(14990, 15010)[:, :, 10:], published_noise()[:, :, :10])


def test_the_solver_keeps_one_state_of_each_step_and_copies_none(tiny: tuple) -> None:
    """At full size they are gigabytes: what a call returns is what the next chunk's same step is given."""
    model, call, config, voice = tiny
    steps, calls, kept = config.flow.steps, 0, {}

    def watching(name: str, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        nonlocal calls
        if name != "flow_estimator_chunk":
            return call(name, **arrays)
        if calls >= steps:
            assert kept.pop(calls - steps)() is arrays["att_state"]
        found = call(name, **arrays)
        found["next_att_state"] = found["next_att_state"].copy()
        kept[calls] = weakref.ref(found["next_att_state"])
        gone.append(weakref.ref(arrays["att_state"]))
        calls += 1
        return found

    gone: list[weakref.ref[np.ndarray]] = []
    stages = {stage.name: stage for stage in model.stages}
    config = replace(config, flow=replace(config.flow, stream_left_chunks=-1))  # a bound cuts them
    for _ in Synthesizer(watching, stages, config).waveform(iter(range(120)), voice, seed=0):
        assert sum(reference() is not None for reference in gone) == 0
    assert calls == 5 * steps
