"""Where each mel frame of the v1 layout reads in its speech tokens: host work, because data decides the sizes.

Tokens and mel frames have no common multiple, so features are interpolated. The prompt, whose mel is given, and the
speech after it are stretched apart, and so are the first and last tokens of longer speech: wherever a stream is cut,
the same tokens make the same frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tritone.families.cosyvoice.config.v1 import InterpolatingFlowConfig
from tritone.stage import Arrays

EDGE = 20
"""Tokens at each end of longer speech that are stretched apart; also how many tokens chunks of a stream overlap."""


def frame_positions(
    config: InterpolatingFlowConfig, prompt_tokens: int, prompt_frames: int, tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the token before each frame, int64 `[frames]`, and how far the frame is on the way to the next one,
    float32.

    Frames are those of the prompt, as many as its mel has, and `config.frames(tokens)` of the speech after it.
    """
    total, edge = config.frames(tokens), config.frames(EDGE)
    parts = [(prompt_tokens, prompt_frames)]
    if tokens > 2 * EDGE:
        parts += [(EDGE, edge), (tokens - 2 * EDGE, total - 2 * edge), (EDGE, edge)]
    else:
        parts += [(tokens, total)]
    start, before, fractions = 0, [], []
    for count, frames in parts:
        token, fraction = _stretch(count, frames)
        before.append(start + token)
        fractions.append(fraction)
        start += count
    return np.concatenate(before), np.concatenate(fractions)


def frame_inputs(flow: InterpolatingFlowConfig, rows: Sequence[tuple[int, int, int]], _streaming: bool) -> Arrays:
    """Return the inputs of `flow_encoder` that place the frames of a padded batch among its tokens.

    A row is (prompt tokens, prompt frames, tokens to speak).
    """
    lengths = np.array([flow.total_frames(*row) for row in rows], np.int32)
    token = np.zeros((len(rows), lengths.max()), np.int64)
    fraction = np.zeros(token.shape, np.float32)
    for index, row in enumerate(rows):
        token[index, : lengths[index]], fraction[index, : lengths[index]] = frame_positions(flow, *row)
    return {"frame_token": token, "frame_fraction": fraction, "frame_len": lengths}


def _stretch(count: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear interpolation of `count` tokens at the centres of as wide `frames`, in float32 as published."""
    scale = np.float32(count) / np.float32(max(1, frames))
    position = np.maximum(scale * (np.arange(frames, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), 0)
    token = np.minimum(position.astype(np.int64), max(0, count - 1))
    # Past the last token there is nothing to move on to.
    return token, np.where(token < count - 1, position - token.astype(np.float32), 0).astype(np.float32)
