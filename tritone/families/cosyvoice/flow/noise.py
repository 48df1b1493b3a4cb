"""The fixed noise of the published models, reproduced in NumPy so that a server needs no torch to draw it.

v2 and v3 draw the starting noise of the flow once, and v3 the noise of its vocoder; both from the CPU generator of
torch, a Mersenne Twister whose 32-bit outputs give 24-bit uniforms.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

Draw = Callable[[int], np.ndarray]
"""`draw(frames) -> [1, mels, frames]`: the noise from which that many frames start, following those drawn before."""
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
    blocks = uniform(_legacy_twister(seed), (count // 16, 2, 8))
    radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - blocks[:, 0]))
    angle = np.float32(2 * np.pi) * blocks[:, 1]
    values = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    noise = values.reshape(1, channels, frames).astype(np.float32)
    noise.setflags(write=False)
    return noise


def noise_frames(start: int, stop: int, channels: int = 80) -> np.ndarray:
    """Return the published noise `[1, channels, stop - start]` at those frames; beyond its 15000 frames it repeats."""
    noise = published_noise(channels)
    if stop <= noise.shape[2]:
        return noise[:, :, start:stop]
    return noise[:, :, np.arange(start, stop) % noise.shape[2]]


def table_noise(channels: int, _seed: int) -> Draw:
    """Return a draw that reads the published noise from its start, whatever the seed (v2 and v3)."""
    done = 0

    def draw(frames: int) -> np.ndarray:
        nonlocal done
        done += frames
        return noise_frames(done - frames, done, channels)

    return draw


def drawn_noise(channels: int, seed: int) -> Draw:
    """Return a draw from a generator of the seed (v1).

    Frames come one after another, so that cutting them elsewhere does not change them.
    """
    # Not the vocoder's noise, which comes from the bare seed.
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 1])))

    def draw(frames: int) -> np.ndarray:
        noise = rng.standard_normal((1, frames, channels), dtype=np.float32)
        return np.ascontiguousarray(noise.transpose(0, 2, 1))

    return draw


class PublishedUniforms:
    """The stream of torch's CPU `rand` after `manual_seed(0)` and `offset` other draws, read in order.

    A table of it is a window of the stream: reading as far as an utterance goes costs 36 bytes a sample, where the
    published table of 300 s takes 259 MB.
    """

    def __init__(self, offset: int) -> None:
        self._twister = np.random.MT19937()
        self._twister.state = _skipped(offset)

    def take(self, *shape: int) -> np.ndarray:
        """Return the next numbers of the stream, in 0..1, float32 of that shape."""
        return uniform(self._twister, shape)


def uniform(twister: np.random.MT19937, shape: tuple[int, ...]) -> np.ndarray:
    """Return the next numbers of a generator as torch's uniforms in 0..1, float32 of that shape."""
    bits = np.random.Generator(twister).integers(0, 1 << 32, shape, dtype=np.uint32)
    return (bits & np.uint32((1 << 24) - 1)).astype(np.float32) * np.float32(2.0**-24)


@lru_cache(maxsize=2)
def _skipped(offset: int) -> Any:
    """State of torch's generator after `manual_seed(0)` and `offset` draws; takes tens of milliseconds, once."""
    twister = _legacy_twister(0)
    twister.random_raw(offset, output=False)
    return twister.state


def _legacy_twister(seed: int) -> np.random.MT19937:
    twister = np.random.MT19937()
    twister._legacy_seeding(seed)
    return twister
