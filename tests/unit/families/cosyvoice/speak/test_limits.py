"""Sizes between the host steps: the largest outputs fit the stages they feed, and larger ones are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tritone.errors import InvalidRequest
from tritone.families.cosyvoice.family import all_stages, family
from tritone.families.cosyvoice.published import PUBLISHED
from tritone.families.cosyvoice.speak.hosts import host_tensors
from tritone.families.cosyvoice.speak.limits import longest_speech, most_tokens, read_limits
from tritone.request.batch import row
from tritone.stage import Arrays, Axis, Family, Scaled, Stage

SECOND = {1: 50, 2: 25, 3: 25}


def largest(stages: dict[str, Stage], stage: str, tensor: str) -> int:
    axis = next(t for t in stages[stage].inputs if t.name == tensor).shape[-1]
    assert isinstance(axis, Axis)
    return axis.hi


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_output_of_a_host_step_fits_the_stage_it_feeds(version: int) -> None:
    config = PUBLISHED[version]
    stages = {stage.name: stage for stage in all_stages(config, lambda _: None)}
    tensors = host_tensors(read_limits(list(stages.values())), config)

    def most(name: str) -> int:
        axis = tensors[name].shape[-1]
        assert isinstance(axis, Axis)
        return axis.hi

    segment = most_tokens(read_limits(list(stages.values())), config)
    assert segment <= largest(stages, "flow_encoder", "speech_token")
    assert config.flow.frames(segment) <= largest(stages, "flow_estimator", "mu")
    assert most("prompt_speech_token") <= largest(stages, "flow_encoder", "speech_token")
    assert most("prompt_feat") <= largest(stages, "flow_estimator", "cond")
    assert largest(stages, "vocoder", "mel") == largest(stages, "f0_predictor", "mel")
    assert isinstance(tensors["waveform"].shape[-1], Scaled)
    # All segments together may be longer than any one.
    assert most("speech_token") == longest_speech(config) > segment
    assert most("mel") >= 2 * config.flow.frames(longest_speech(config))
    assert most("mu") >= most("token_len") * config.flow.frames(segment)
    # One token more would not fit, whatever the prompt and the speed.
    tokens = segment + 1
    assert tokens > largest(stages, "flow_encoder", "speech_token") or (
        config.flow.frames(tokens) > min(largest(stages, "flow_estimator", "mu"), 2 * largest(stages, "vocoder", "mel"))
    )


def networks(model: Family) -> object:
    """Return a call that fails for inputs beyond the declared sizes and answers with zeros."""
    stages = {stage.name: stage for stage in model.stages}

    def call(name: str, **arrays: np.ndarray) -> Arrays:
        sizes: dict[str, int] = {}
        for tensor in stages[name].inputs:
            for dim, size in zip(tensor.shape, arrays[tensor.name].shape, strict=True):
                axis, factor = (dim.axis, dim.factor) if isinstance(dim, Scaled) else (dim, 1)
                if isinstance(axis, Axis):
                    assert size <= factor * axis.hi, (name, tensor.name, size)
                    sizes[axis.name] = size // factor
        return {tensor.name: np.zeros(tensor.sizes(sizes), tensor.dtype) for tensor in stages[name].outputs}

    return call


def spoken(model: Family, version: int, prompt: int, tokens: int, speed: float) -> Arrays:
    """Return the outputs of flow encoder, flow decoder and vocoder for a prompt and speech of so many tokens."""
    config, call = PUBLISHED[version], networks(model)
    pool = {
        "speech_token": row(np.zeros(tokens)),
        "token_len": row([tokens]),
        "prompt_speech_token": row(np.zeros(prompt)),
        "prompt_feat": np.zeros((1, 80, config.flow.frames(prompt)), np.float32),
        "embedding": np.ones((1, 192), np.float32),
        "speed_used": np.array([[speed]], np.float32),
        "seed_used": row([1]),
    }
    for host in model.hosts[2:]:
        short: Arrays = {
            **pool,
            "speech_token": row([1, 2]),
            "token_len": row([2]),
            "prompt_speech_token": row([]),
            "speed_used": row([1]),
        }
        short["prompt_feat"] = np.zeros((1, 80, 0), np.float32)
        if host.name == "flow_decoder":
            short |= {"mu": np.zeros((1, 80, 4), np.float32), "mu_len": row([4])}
        if host.name == "vocoder":
            short |= {"mel": np.zeros((1, 80, 4), np.float32), "mel_len": row([4])}
        requests = [{tensor.name: request[tensor.name] for tensor in host.inputs} for request in (pool, short)]
        result, other = host.run(call, None, requests)
        assert isinstance(other, dict)  # which a request at fault does not touch
        if isinstance(result, Exception):
            raise result
        pool |= result
    return pool


@pytest.fixture(scope="module", params=[1, 2, 3])
def version(request: pytest.FixtureRequest) -> tuple[Family, int]:
    folder: Path = request.getfixturevalue(f"tiny_v{request.param}")
    return family(folder), request.param


def test_a_request_within_the_limits_never_reaches_a_stage_with_more_than_it_takes(version: tuple) -> None:
    model, number = version
    rate = SECOND[number]
    for prompt, seconds, speed in ((0, 15, 0.5), (30, 15, 0.5), (30, 30, 1.0), (0, 60, 2.0)):
        pool = spoken(model, number, prompt * rate, seconds * rate, speed)
        assert pool["waveform"].size == pool["mel"].shape[2] * PUBLISHED[number].hift.hop


def test_more_than_the_stages_take_is_refused(version: tuple) -> None:
    model, number = version
    rate = SECOND[number]
    together = (
        r"target_text: speaks for 60\.0 s after a prompt of 30\.0 s; the limit is 60 s together in one segment\. "
        r"Split it by punctuation, or use the streaming model"
    )
    with pytest.raises(InvalidRequest, match=together):
        spoken(model, number, 30 * rate, 60 * rate, 1.0)
    slow = r"speed: makes the speech 90\.0 s long \(0\.5 was asked for\); the limit is (34\.8|60\.0) s in one segment\."
    with pytest.raises(InvalidRequest, match=slow):
        spoken(model, number, 0, 45 * rate, 0.5)
    limits = read_limits(model.stages)
    assert most_tokens(limits, PUBLISHED[number]) == 60 * rate


def test_segments_are_spoken_like_requests_of_their_own_and_together_may_exceed_a_stage(version: tuple) -> None:
    model, number = version
    rate, call = SECOND[number], networks(model)
    tokens = [30 * rate, 3 * rate, 33 * rate]
    request = {
        "speech_token": row(np.zeros(sum(tokens))),
        "token_len": row(tokens),
        "prompt_speech_token": row([]),
        "prompt_feat": np.zeros((1, 80, 0), np.float32),
        "embedding": np.ones((1, 192), np.float32),
        "speed_used": np.array([[1.0]], np.float32),
        "seed_used": row([1]),
    }
    for host in model.hosts[2:]:
        request |= host.run(call, None, [{tensor.name: request[tensor.name] for tensor in host.inputs}])[0]
    config = PUBLISHED[number]
    frames = [config.flow.frames(count) for count in tokens]
    assert request["mel_len"].tolist() == [frames]
    assert request["waveform"].shape == (1, sum(frames) * config.hift.hop)
