"""The noise and features that a chunk of a v1 stream passes to the next, so that the frames they share nearly agree.

The published shape of a cache is `[1, 80, frames, 2]`: noise and mu of the prompt's frames and of the last frames.
"""

from __future__ import annotations

import numpy as np

from tritone.families.cosyvoice.config.v1 import InterpolatingFlowConfig
from tritone.families.cosyvoice.flow.v1.interpolation import EDGE


def empty_cache(config: InterpolatingFlowConfig) -> np.ndarray:
    """Return the cache before the first chunk."""
    return np.zeros((1, config.output_size, 0, 2), np.float32)


def continued(noise: np.ndarray, mu: np.ndarray, cache: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return noise and mu `[1, 80, frames]` of a chunk, its first frames replaced by those kept in the cache."""
    kept = cache.shape[2]
    return (
        np.concatenate([cache[..., 0], noise[:, :, kept:]], axis=2),
        np.concatenate([cache[..., 1], mu[:, :, kept:]], axis=2),
    )


def next_cache(config: InterpolatingFlowConfig, noise: np.ndarray, mu: np.ndarray, prompt_frames: int) -> np.ndarray:
    """Return the cache for the next chunk: noise and mu of the prompt and of the frames of the last `EDGE` tokens."""
    overlap = config.frames(EDGE)
    return np.stack(
        [np.concatenate([x[:, :, :prompt_frames], x[:, :, -overlap:]], axis=2) for x in (noise, mu)], axis=-1
    )
