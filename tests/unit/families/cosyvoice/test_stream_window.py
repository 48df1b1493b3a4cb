"""Streams that look a few chunks back: equal to one pass under that mask, at constant cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from support.stream_helpers import Opened, opened, random_speech, random_voice

from tritone.families.cosyvoice.flow.stream import FlowStream
from tritone.families.cosyvoice.flow.v2 import estimator
from tritone.families.cosyvoice.flow.v3 import estimator as dit
from tritone.families.cosyvoice.flow.window import stream_window, turn
from tritone.families.cosyvoice.speak.whole import render
from tritone.nn.attention import MASKED
from tritone.nn.rotary import Rotary, rotate
from tritone.stage import Arrays, Axis, Dim, Scaled, Stage

CHUNK = 50


@pytest.fixture(scope="module", params=[2, 3])
def tiny(request: pytest.FixtureRequest) -> Opened:
    tiny = opened(request.getfixturevalue(f"tiny_v{request.param}"))
    return tiny._replace(config=tiny.configured(steps=3))


def network(tiny: Opened) -> ModuleType:
    return dit if tiny.config.version.number == 3 else estimator


def stream_mel(tiny: Opened, tokens: int, prompt: int, left: int, hop: int = 25) -> np.ndarray:
    stream = FlowStream(tiny.call, tiny.stages, tiny.configured(stream_left_chunks=left), random_voice(prompt), hop)
    return np.concatenate([*stream.push(random_speech(tokens)), *stream.finish()], axis=2)


def one_pass(tiny: Opened, tokens: int, prompt: int) -> np.ndarray:
    return render(tiny.call, tiny.config, [(random_speech(tokens), random_voice(prompt))], streaming_mask=True)[0]


def bounded(monkeypatch: pytest.MonkeyPatch, tiny: Opened, prompt: int, left: int) -> None:
    """From now on a whole pass sees the chunks of the prompt and `left` chunks back, by position and nothing else."""

    def bias(queries: int, past: int, *_: object, **__: object) -> torch.Tensor:
        assert past == 0
        chunk = torch.arange(queries) // CHUNK
        near = (chunk[None] <= chunk[:, None]) & (chunk[None] >= chunk[:, None] - left)
        prompt_chunks = -(-2 * prompt // CHUNK)
        of_prompt = (chunk[None] < prompt_chunks) & (chunk[None] <= chunk[:, None])
        return torch.where(near | of_prompt, 0.0, MASKED)[None, None]

    monkeypatch.setattr(network(tiny), "attention_bias", bias)


@pytest.mark.parametrize(("prompt", "left", "hop"), [(0, 1, 25), (31, 1, 25), (50, 2, 50), (60, 0, 75), (10, 4, 25)])
def test_a_bounded_stream_equals_one_pass_under_its_mask(
    tiny: Opened, monkeypatch: pytest.MonkeyPatch, prompt: int, left: int, hop: int
) -> None:
    tokens = 190
    found = stream_mel(tiny, tokens, prompt, left, hop)
    unbounded = one_pass(tiny, tokens, prompt)
    bounded(monkeypatch, tiny, prompt, left)
    expected = one_pass(tiny, tokens, prompt)
    assert found.shape == expected.shape == (1, 80, 2 * tokens)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    assert np.abs(found - unbounded).max() > 1e-3 * np.abs(unbounded).max()


@pytest.mark.parametrize("hop", [25, 75])
def test_without_a_bound_it_equals_the_published_mask(tiny: Opened, hop: int) -> None:
    found, expected = stream_mel(tiny, 190, 31, left=-1, hop=hop), one_pass(tiny, 190, 31)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_prompt_stays_in_sight(tiny: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Speech long after the prompt still depends on the prompt's keys."""
    found = stream_mel(tiny, 240, 50, left=1)
    bounded(monkeypatch, tiny, 0, 1)
    forgotten = one_pass(tiny, 240, 50)
    assert np.abs(found - forgotten)[:, :, -100:].max() > 1e-3 * np.abs(forgotten).max()


@pytest.mark.parametrize(("left", "last"), [(4, 100 + 200), (0, 100), (-1, 100 + 50 * 9)])
def test_the_past_stops_growing_unless_it_is_to_grow(tiny: Opened, left: int, last: int) -> None:
    past: list[int] = []

    def watching(name: str, **arrays: np.ndarray) -> Arrays:
        if name == "flow_estimator_chunk":
            past.append(arrays["att_state"].shape[3])
        return tiny.call(name, **arrays)

    config = tiny.configured(stream_left_chunks=left)
    stream = FlowStream(watching, tiny.stages, config, random_voice(50), 25)
    for _ in stream.push(random_speech(10 * 25 + 3)):
        pass
    assert past[-1] == max(past) == last and len(past) == 3 * 12


def test_a_checkpoint_with_a_bound_of_its_own_keeps_it(tiny_v2: Path) -> None:
    config = opened(tiny_v2).config
    window = stream_window(config, 30)
    assert window is not None and window[:3] == (50, 100, 150)
    own = replace(config, flow=replace(config.flow, estimator=replace(config.flow.estimator, left_chunks=2)))
    assert stream_window(own, 30) is None


def test_turned_keys_are_those_of_another_position() -> None:
    keys = torch.randn(2, 3, 5, 16, generator=torch.Generator().manual_seed(0))
    cosine, sine = Rotary(16)(205)
    expected = rotate(keys, cosine[:5], sine[:5])
    found = turn(rotate(keys, cosine[200:], sine[200:]).numpy(), -200)
    assert np.abs(found - expected.numpy()).max() < 1e-4


def at_most(stage: Stage, past: int) -> Stage:
    """Return the stage with no past longer than that."""

    def dim(one: Dim) -> Dim:
        if isinstance(one, Scaled):
            return replace(one, axis=dim(one.axis))  # type: ignore[arg-type]
        return replace(one, opt=min(past, one.opt), hi=past) if isinstance(one, Axis) and one.lo == 0 else one

    return replace(stage, inputs=tuple(replace(t, shape=tuple(map(dim, t.shape))) for t in stage.inputs))


def test_a_past_never_grows_beyond_what_the_stages_take(tiny: Opened) -> None:
    stages = {name: at_most(stage, 100) for name, stage in tiny.stages.items()}
    longest: dict[str, int] = {}

    def call(stage_name: str, **arrays: np.ndarray) -> Arrays:
        for tensor in stages[stage_name].inputs:
            for dim, found in zip(tensor.shape, arrays[tensor.name].shape, strict=True):
                if isinstance(dim, Axis | Scaled) and (dim.axis if isinstance(dim, Scaled) else dim).lo == 0:
                    longest[tensor.name] = max(longest.get(tensor.name, 0), found)
        return tiny.call(stage_name, **arrays)

    config, voice = tiny.configured(stream_left_chunks=-1), random_voice(10)
    stream = FlowStream(call, stages, config, voice, 25)
    mel = np.concatenate([*stream.push(random_speech(190)), *stream.finish()], axis=2)
    encoder = {"token_att_state": 100, "frame_att_state": 200} if config.version.number == 2 else {}
    assert longest == {"att_state": 100, **encoder}
    # Up to there nothing is dropped, and afterwards speech goes on.
    expected = one_pass(tiny, 190, 10)
    assert mel.shape == expected.shape and np.isfinite(mel).all()
    assert np.abs(mel[:, :, :80] - expected[:, :, :80]).max() <= 1e-4 * np.abs(expected).max()
