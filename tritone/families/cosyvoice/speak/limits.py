"""The largest sizes of a segment, read from the stages that it goes through, and of a whole request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tritone.errors import InvalidRequest
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.flow.inputs import Sizes, frame_count
from tritone.families.cosyvoice.speak.request import SPEEDS
from tritone.request.fields import LONGEST_SECONDS
from tritone.stage import Axis, Stage


class Limits(NamedTuple):
    """The largest sizes that the stages of the ensemble take.

    Args:
        tokens: speech tokens of prompt and speech together, `flow_encoder`'s.
        frames: mel frames of the same, `flow_estimator`'s.
        mel: mel frames of the speech at its speed, the vocoder's.
    """

    tokens: int
    frames: int
    mel: int


def read_limits(stages: Sequence[Stage]) -> Limits:
    """Return the limits that these stages declare."""
    inputs = {(stage.name, tensor.name): tensor for stage in stages for tensor in stage.inputs}

    def largest(stage: str, tensor: str) -> int:
        axis = inputs[stage, tensor].shape[-1]
        assert isinstance(axis, Axis)
        return axis.hi

    return Limits(largest("flow_encoder", "speech_token"), largest("flow_estimator", "mu"), largest("vocoder", "mel"))


def longest_speech(config: CosyVoiceConfig) -> int:
    """Return the speech tokens of the longest speech."""
    return int(LONGEST_SECONDS * config.flow.token_frame_rate)


def most_tokens(limits: Limits, config: CosyVoiceConfig) -> int:
    """Return the largest number of speech tokens that any segment can have: without a prompt, at the highest speed."""

    def fits(tokens: int) -> bool:
        frames = frame_count(config, Sizes(0, 0, tokens))
        return frames <= limits.frames and int(frames / SPEEDS[1]) <= limits.mel

    return next(tokens for tokens in range(limits.tokens, 0, -1) if fits(tokens))


def check_flow(limits: Limits, config: CosyVoiceConfig, sizes: Sizes, field: str = "target_text") -> None:
    """Raise InvalidRequest for speech that does not fit the flow's stages together with its prompt."""
    if sizes.prompt_tokens + sizes.tokens > limits.tokens or frame_count(config, sizes) > limits.frames:
        rate = config.flow.token_frame_rate
        raise InvalidRequest(
            field,
            f"speaks for {sizes.tokens / rate:.1f} s after a prompt of {sizes.prompt_tokens / rate:.1f} s; the limit "
            f"is {limits.tokens / rate:.0f} s together in one segment. Split it by punctuation, or use the streaming "
            "model",
        )


def check_vocoder(limits: Limits, config: CosyVoiceConfig, frames: int, speed: float, field: str = "speed") -> None:
    """Raise InvalidRequest for speech of so many mel frames that is too long for the vocoder at that speed."""
    if int(frames / speed) > limits.mel:
        rate = config.hift.sample_rate / config.hift.hop
        raise InvalidRequest(
            field,
            f"makes the speech {frames / speed / rate:.1f} s long ({speed:g} was asked for); the limit is "
            f"{limits.mel / rate:.1f} s in one segment. Split it by punctuation, speak faster, or use the streaming "
            "model",
        )
