"""The delay pattern: row r holds frame r - c in channel c, so a code is predicted after the coarser ones of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tritone.families.moss_ttsd.lm.config import AsteroidConfig


def delayed(frames: np.ndarray, pads: Sequence[int]) -> np.ndarray:
    """Return the rows `[frames + channels - 1, channels]` of frames `[frames, channels]`.

    Args:
        pads: the id that fills the holes of each channel.
    """
    count, channels = frames.shape
    rows = np.tile(np.asarray(pads, np.int64), (count + channels - 1, 1))
    for channel in range(channels):
        rows[channel : channel + count, channel] = frames[:, channel]
    return rows


def undelayed(rows: np.ndarray) -> np.ndarray:
    """Return the frames `[rows - channels + 1, channels]` that are complete in rows `[rows, channels]`."""
    channels = rows.shape[1]
    count = max(0, len(rows) - channels + 1)
    return np.stack([rows[channel : channel + count, channel] for channel in range(channels)], axis=1)


def codes_of(frames: np.ndarray, config: AsteroidConfig) -> np.ndarray:
    """Return the codec codes `[channels, frames]` of frames `[frames, channels]` of ids."""
    codes = frames.copy()
    codes[:, 0] -= config.speech_tokens[0]
    return np.ascontiguousarray(codes.T)


def frames_of(codes: np.ndarray, config: AsteroidConfig) -> np.ndarray:
    """Return the frames `[frames, channels]` of ids for codec codes `[channels, frames]`."""
    frames = codes.T.astype(np.int64).copy()
    frames[:, 0] += config.speech_tokens[0]
    return frames


def left_padded(prompts: Sequence[np.ndarray], pads: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the prompts padded on the left, `[batch, longest, channels]`, and the rows of padding `[batch]`."""
    longest = max(len(prompt) for prompt in prompts)
    batch = np.tile(np.asarray(pads, np.int64), (len(prompts), longest, 1))
    for row, prompt in enumerate(prompts):
        batch[row, longest - len(prompt) :] = prompt
    return batch, np.array([longest - len(prompt) for prompt in prompts], np.int64)


def spoken_frames(frames: np.ndarray, speech_pad: int) -> int:
    """Return the number of frames up to the last whose second channel holds a code, 0 without such a frame."""
    held = np.flatnonzero(frames[:, 1] != speech_pad)
    return int(held[-1]) + 1 if len(held) else 0
