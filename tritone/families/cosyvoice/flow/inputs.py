"""The inputs of the flow's stages besides tokens and speaker: masks, frame positions and starting noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.flow.noise import Draw
from tritone.stage import Arrays


class Sizes(NamedTuple):
    """The lengths of one row: tokens and mel frames of its prompt, and tokens to be spoken."""

    prompt_tokens: int
    prompt_frames: int
    tokens: int


def frame_count(config: CosyVoiceConfig, sizes: Sizes) -> int:
    """Return mel frames of prompt and speech together."""
    return config.flow.total_frames(*sizes)


def encoder_inputs(config: CosyVoiceConfig, rows: Sequence[Sizes], streaming_mask: bool = False) -> Arrays:
    """Return the inputs of `flow_encoder` besides tokens and speaker, for a padded batch of utterances.

    v1's are the positions of its frames, v2's is the chunk of its mask; v3 has none.
    """
    return config.version.encoder_inputs(config.flow, rows, streaming_mask)


def starting_noise(config: CosyVoiceConfig, seed: int) -> Draw:
    """Return the noise of one utterance: the published table or, in v1, draws from the request's seed.

    Each call continues where the last one stopped.
    """
    return config.version.starting_noise(config.flow.output_size, seed)
