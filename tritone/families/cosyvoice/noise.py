"""The fixed starting noise of the v2 flow, reproduced in NumPy so that a server needs no torch to draw it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

FRAMES = 15000
"""Frames of noise the published model draws once: the longest prompt plus speech it can render (300 s)."""


@lru_cache(maxsize=2)
def published_noise(channels: int = 80, frames: int = FRAMES, seed: int = 0) -> np.ndarray:
    """Standard normal noise `[1, channels, frames]` float32, equal to torch's CPU `randn` after `manual_seed(seed)`.

    torch fills large tensors in blocks of sixteen by Box-Muller over its Mersenne Twister, the first eight uniforms of
    a block giving radii and the last eight angles. Agreement is to the last bit of float32 rounding (about 1e-6).
    """
    count = channels * frames
    if count % 16:
        raise ValueError(f"the noise needs a multiple of 16 values, got {channels} x {frames}")
    twister = np.random.Generator(_legacy_twister(seed))
    bits = twister.integers(0, 1 << 32, count, dtype=np.uint32)
    uniform = (bits & np.uint32((1 << 24) - 1)).astype(np.float32) * np.float32(2.0**-24)
    blocks = uniform.reshape(-1, 2, 8)
    radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - blocks[:, 0]))
    angle = np.float32(2 * np.pi) * blocks[:, 1]
    values = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    noise = values.reshape(1, channels, frames).astype(np.float32)
    noise.setflags(write=False)
    return noise


def _legacy_twister(seed: int) -> np.random.MT19937:
    twister = np.random.MT19937()
    twister._legacy_seeding(seed)
    return twister
