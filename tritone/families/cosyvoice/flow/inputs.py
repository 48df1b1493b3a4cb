"""What the flow's stages are given besides tokens and speaker, by layout: masks, frame positions and starting noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.config.v1 import InterpolatingFlowConfig
from tritone.families.cosyvoice.flow.grid import encoder_chunk
from tritone.families.cosyvoice.flow.noise import published_noise
from tritone.families.cosyvoice.flow.v1.interpolation import frame_positions
from tritone.stage import Arrays

Draw = Callable[[int], np.ndarray]
"""`draw(frames) -> [1, 80, frames]`: the noise from which that many frames start."""


class Row(NamedTuple):
    """How much one utterance has of each: tokens and mel frames of its prompt, and tokens to be spoken."""

    prompt_tokens: int
    prompt_frames: int
    tokens: int


def frame_count(config: CosyVoiceConfig, row: Row) -> int:
    """Return mel frames of prompt and speech together."""
    flow = config.flow
    if isinstance(flow, InterpolatingFlowConfig):
        return row.prompt_frames + flow.frames(row.tokens)
    return flow.token_mel_ratio * (row.prompt_tokens + row.tokens)


def encoder_inputs(config: CosyVoiceConfig, rows: Sequence[Row], streaming_mask: bool = False) -> Arrays:
    """Inputs of `flow_encoder` besides tokens and speaker, for a padded batch of utterances.

    The v1 layout's say where each frame reads; v2's is the chunk of its mask; v3 has none.
    """
    flow = config.flow
    if not isinstance(flow, InterpolatingFlowConfig):
        return encoder_chunk(config, streaming_mask)
    lengths = np.array([frame_count(config, row) for row in rows], np.int32)
    token = np.zeros((len(rows), lengths.max()), np.int64)
    fraction = np.zeros(token.shape, np.float32)
    for index, row in enumerate(rows):
        token[index, : lengths[index]], fraction[index, : lengths[index]] = frame_positions(flow, *row)
    return {"frame_token": token, "frame_fraction": fraction, "frame_len": lengths}


def starting_noise(config: CosyVoiceConfig, seed: int) -> Draw:
    """Return the noise of one utterance: the published table or, in v1, draws from the request's seed.

    Each call continues where the last one stopped; frames come one after another, so that cutting them elsewhere does
    not change them.
    """
    mels = config.flow.output_size
    # Not the vocoder's noise, which comes from the bare seed.
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 1])))
    done = 0

    def fixed(frames: int) -> np.ndarray:
        nonlocal done
        done += frames
        return noise_frames(done - frames, done)

    def drawn(frames: int) -> np.ndarray:
        noise = rng.standard_normal((1, frames, mels), dtype=np.float32)
        return np.ascontiguousarray(noise.transpose(0, 2, 1))

    return drawn if isinstance(config.flow, InterpolatingFlowConfig) else fixed


def noise_frames(start: int, stop: int) -> np.ndarray:
    """Return the published noise `[1, 80, stop - start]` at those frames; beyond its 15000 frames it repeats."""
    noise = published_noise()
    if stop <= noise.shape[2]:
        return noise[:, :, start:stop]
    return noise[:, :, np.arange(start, stop) % noise.shape[2]]
