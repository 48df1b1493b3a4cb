"""The positions of v1's mel frames among the speech tokens: host work, because the data decides the sizes.

The frame rate is not a multiple of the token rate, so features are interpolated. The prompt, which comes with its mel,
and the speech after it are stretched separately, and so are the first and last tokens of longer speech. The same tokens
therefore make the same frames wherever a stream is cut.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tritone.families.cosyvoice.config.v1 import InterpolatingFlowConfig
from tritone.families.cosyvoice.flow.v1.stages import FRAMES
from tritone.stage import Arrays

EDGE = 20
"""Tokens at each end of longer speech that are stretched separately; the chunks of a stream overlap by as many."""


def frame_positions(
    config: InterpolatingFlowConfig, prompt_tokens: int, prompt_frames: int, tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the token before each frame, int64 `[frames]`, and the frame's distance to it in tokens, float32.

    The frames are the `prompt_frames` of the prompt's mel, then `config.frames(tokens)` of the speech after it.
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
    token = np.zeros((len(rows), max(FRAMES.lo, lengths.max())), np.int64)
    fraction = np.zeros(token.shape, np.float32)
    for index, row in enumerate(rows):
        token[index, : lengths[index]], fraction[index, : lengths[index]] = frame_positions(flow, *row)
    return {"frame_token": token, "frame_fraction": fraction, "frame_len": lengths}


def _stretch(count: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions for stretching `count` tokens to `frames`, at the centres of frames, in float32 as published."""
    scale = np.float32(count) / np.float32(max(1, frames))
    position = np.maximum(scale * (np.arange(frames, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), 0)
    token = np.minimum(position.astype(np.int64), max(0, count - 1))
    # No token follows the last one.
    return token, np.where(token < count - 1, position - token.astype(np.float32), 0).astype(np.float32)
