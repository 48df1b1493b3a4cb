"""Streams of v1 and v3: v3's equal one pass, v1's have the published schedule; each chunk costs the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.golden_weights import golden

from tritone.engines.torch import torch_call
from tritone.families.cosyvoice.checkpoint.folder import load_config
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.family import family
from tritone.families.cosyvoice.flow.inputs import starting_noise
from tritone.families.cosyvoice.flow.speed import at_speed
from tritone.families.cosyvoice.flow.v1 import stream as streaming_v1
from tritone.families.cosyvoice.flow.v1.cache import empty_cache
from tritone.families.cosyvoice.flow.v1.interpolation import EDGE
from tritone.families.cosyvoice.flow.v1.stream import InterpolatingStream, fades
from tritone.families.cosyvoice.speak.stream import Synthesizer
from tritone.families.cosyvoice.speak.whole import render, vocode
from tritone.families.cosyvoice.vocoder.stream import VocoderStream
from tritone.families.cosyvoice.voices.voice import Voice
from tritone.stage import Arrays, Call, Stage

Version = tuple[CosyVoiceConfig, Call, dict[str, Stage]]


@pytest.fixture(scope="module")
def versions(request: pytest.FixtureRequest) -> Callable[[int], Version]:
    """Configuration, stages in torch and their declarations, opened once."""
    opened: dict[int, Version] = {}

    def version(number: int) -> Version:
        if number not in opened:
            folder: Path = request.getfixturevalue(f"tiny_v{number}")
            model = family(folder)
            call = torch_call(model.stages)
            for stage in model.stages:  # loading weights draws random numbers
                if stage.build:
                    call.module(stage.name)
            opened[number] = load_config(folder), call, {stage.name: stage for stage in model.stages}
        return opened[number]

    return version


def recorded_voice(known: Arrays) -> Voice:
    prompt = known["prompt_token"][0].astype(np.int64)
    return Voice("recorded", known["embedding"][0], speech_token=prompt, mel=known["prompt_feat"][0])


def speech(version: int, tokens: int) -> list[int]:
    return np.random.default_rng(3).integers(0, 4096 if version == 1 else 6561, tokens).tolist()


def with_prompt(voice: Voice, tokens: int) -> Voice:
    rng = np.random.default_rng(4)
    mel = (rng.standard_normal((2 * tokens, 80)) - 5).astype(np.float32)
    return replace(voice, speech_token=rng.integers(0, 4096, tokens), mel=mel)


@pytest.mark.parametrize(("hop", "prompt", "speed"), [(25, 0, 1.0), (50, 31, 1.0), (25, 60, 1.3)])
def test_a_v3_stream_equals_one_pass(versions: Callable[[int], Version], hop: int, prompt: int, speed: float) -> None:
    config, call, stages = versions(3)
    voice, tokens = with_prompt(recorded_voice(golden("stream", "v3")), prompt), speech(3, 83)
    chunks = list(Synthesizer(call, stages, config, hop=hop).waveform(iter(tokens), voice, seed=7, speed=speed))
    (mel,) = render(call, config, [(tokens, voice)], streaming_mask=True)
    (whole,) = vocode(call, config.hift, [at_speed(mel, speed)], [7])
    streamed = np.concatenate(chunks)
    assert len(chunks) > 1 and streamed.shape == whole.shape == (int(2 * len(tokens) / speed) * 480,)
    assert np.abs(streamed - whole).max() < 1e-4


@pytest.mark.parametrize("number", [2, 3])
def test_published_chunks_are_slices_of_one_pass_but_for_the_last(
    versions: Callable[[int], Version], number: int
) -> None:
    """The published last chunk is computed under full attention, and does not continue the ones before it."""
    config, call, _ = versions(number)
    known = golden("stream", f"v{number}")
    tokens, voice = known["token"][0].tolist(), recorded_voice(known)
    (masked,) = render(call, config, [(tokens, voice)], streaming_mask=True)
    (full,) = render(call, config, [(tokens, voice)])
    first = known["mel_0"].shape[2]
    assert np.abs(masked[:, :, :first] - known["mel_0"]).max() < 1e-4
    assert np.abs(full - known["mel_1"]).max() < 1e-4
    assert np.abs(masked - known["mel_1"])[:, :, first:].max() > 1e-1


def test_a_v1_stream_reproduces_the_published_schedule(versions: Callable[[int], Version]) -> None:
    config, call, _ = versions(1)
    known = golden("stream", "v1")
    spoken = [known[f"mel_{index}"] for index in range(3)]
    done = 0

    def draw(frames: int) -> np.ndarray:
        nonlocal done
        if done:  # between two chunks the published vocoder draws phases and noise, also for 20 frames of the past
            samples = config.hift.hop * (spoken[done - 1].shape[2] + (20 if done > 1 else 0))
            torch.rand(1, 9, 1), torch.randn(1, 9, samples), torch.randn(1, samples, 1)
        done += 1
        return torch.randn(1, 80, frames).numpy()

    torch.manual_seed(1234)
    stream = InterpolatingStream(call, config, recorded_voice(known), draw, published=True)
    found = [*stream.push(known["token"][0].tolist()), *stream.finish()]
    assert [mel.shape for mel in found] == [mel.shape for mel in spoken]
    for mel, wanted in zip(found, spoken, strict=True):
        assert np.abs(mel - wanted).max() < 1e-4


def v1_stream(version: Version, tokens: int, seed: int, call: Call | None = None) -> Iterator[np.ndarray]:
    config, own, _ = version
    voice = recorded_voice(golden("stream", "v1"))
    stream = InterpolatingStream(call or own, config, voice, starting_noise(config, seed))
    yield from stream.push(speech(1, tokens))
    yield from stream.finish()


def test_chunks_of_v1_begin_as_a_whole_pass_and_agree_where_they_meet(
    versions: Callable[[int], Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, call, _ = versions(1)
    voice, noise = recorded_voice(golden("stream", "v1")), starting_noise(config, 5)
    (whole,) = render(call, config, [(speech(1, 120), voice)], draws=[noise])
    shared = config.flow.frames(EDGE)
    first, second = list(v1_stream(versions(1), 220, 5))[:2]
    np.testing.assert_array_equal(first, whole[:, :, :-shared])
    before = whole[:, :, -shared:]
    # What the second chunk has there by itself, with and without what the first handed on.
    monkeypatch.setattr(streaming_v1, "fades", lambda frames, _published: (np.ones(frames), np.zeros(frames)))
    unfaded = list(v1_stream(versions(1), 220, 5))[1][:, :, :shared]
    rising, falling = fades(shared)
    assert np.abs(second[:, :, :shared] - rising * unfaded - falling * before).max() < 1e-5
    monkeypatch.setattr(streaming_v1, "next_cache", lambda flow, *_: empty_cache(flow))
    strange = list(v1_stream(versions(1), 220, 5))[1][:, :, :shared]
    assert np.abs(unfaded - before).mean() < 0.5 * np.abs(strange - before).mean()


def test_the_new_fades_keep_the_level_and_the_published_do_not() -> None:
    for published, low, high in ((False, 1.0, 1.0), (True, 1.05, 1.09)):
        rising, falling = fades(34, published)
        assert len(rising) == len(falling) == 34 and (np.diff(rising) > 0).all() and (np.diff(falling) < 0).all()
        np.testing.assert_allclose(rising, falling[::-1], atol=1e-6)  # neither chunk is favoured
        assert low - 1e-6 <= (rising + falling).min() and (rising + falling).max() <= high + 1e-6


def test_every_chunk_of_v1_costs_the_same(versions: Callable[[int], Version]) -> None:
    config, call, stages = versions(1)
    seen: dict[str, list[int]] = {"flow_encoder": [], "flow_estimator": [], "vocoder": [], "f0_predictor": []}

    def counting(name: str, **arrays: np.ndarray) -> Arrays:
        sizes = {"flow_encoder": "speech_token", "flow_estimator": "x"}
        seen[name].append(arrays[sizes.get(name, "mel")].shape[-1])
        return call(name, **arrays)

    voice = recorded_voice(golden("stream", "v1"))
    chunks = list(Synthesizer(counting, stages, config).waveform(iter(speech(1, 750)), voice, seed=0))
    assert len(chunks) == 9  # the last is what the vocoder held back
    for name, sizes in seen.items():
        usual = sizes[10:60] if name == "flow_estimator" else sizes[1:6]
        assert len(usual) >= 5 and len(set(usual)) == 1, (name, sizes)
        assert max(sizes) <= usual[0], (name, sizes)


def test_v1_speech_has_no_seams_in_the_vocoder(versions: Callable[[int], Version]) -> None:
    config, call, _ = versions(1)
    mel = (np.random.default_rng(6).standard_normal((1, 80, 160)) - 5).astype(np.float32)
    stream = VocoderStream(call, config.hift, 9)
    pieces = [stream.push(mel[:, :, start : start + 45], last=start == 135) for start in (0, 45, 90, 135)]
    (whole,) = vocode(call, config.hift, [mel], [9])
    assert np.abs(np.concatenate(pieces) - whole).max() < 1e-4


def test_two_v1_streams_side_by_side_equal_each_alone(versions: Callable[[int], Version]) -> None:
    version = versions(1)
    alone = [list(v1_stream(version, 240, seed)) for seed in (1, 2)]
    together: list[list[np.ndarray]] = [[], []]
    for pair in zip(v1_stream(version, 240, 1), v1_stream(version, 240, 2), strict=True):
        for chunks, chunk in zip(together, pair, strict=True):
            chunks.append(chunk)
    for found, wanted in zip(together, alone, strict=True):
        np.testing.assert_array_equal(np.concatenate(found, axis=2), np.concatenate(wanted, axis=2))
    assert np.abs(alone[0][0] - alone[1][0]).max() > 1e-2


def test_a_hop_shorter_than_the_overlap_is_refused(versions: Callable[[int], Version]) -> None:
    config, call, _ = versions(1)
    with pytest.raises(ValueError, match=r"hop is 19 tokens; it must be 20 or more"):
        InterpolatingStream(call, config, recorded_voice(golden("stream", "v1")), starting_noise(config, 0), 19)
