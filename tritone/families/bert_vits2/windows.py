"""How far the decoder hears, and the windows that long utterances and streams are decoded in.

The decoder is made of convolutions, so a sample depends on the frames near it and on no others. A window that has so
many frames more on both sides than are kept gives the samples of the whole utterance: nothing has to be blended.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from tritone.families.bert_vits2.config import DECODER_KERNEL, ModelConfig

FIRST = 16
"""Frames of a stream's first window, 0.19 s; each later one is twice as long, which leaves time to compute it."""


class Window(NamedTuple):
    """Frames `begin..end` go into the decoder, and the samples of frames `start..stop` are kept."""

    begin: int
    start: int
    stop: int
    end: int


def reach(config: ModelConfig) -> int:
    """Return frames that a frame's samples depend on, to either side.

    Walks from the samples of frame 0 back to the latents: a range of positions at each rate becomes one of the next.
    """
    side = DECODER_KERNEL // 2
    low, high = -side, math.prod(config.upsample_rates) - 1 + side
    around = max(
        kernel // 2 * (sum(dilations) + len(dilations))
        for kernel, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
    )
    levels = list(zip(config.upsample_kernel_sizes, config.upsample_rates, strict=True))
    for kernel, rate in reversed(levels):
        low, high, padding = low - around, high + around, (kernel - rate) // 2
        low, high = -((kernel - 1 - padding - low) // rate), (high + padding) // rate
    return max(side - low, high + side)


def whole_windows(frames: int, around: int, longest: int) -> Iterator[Window]:
    """Return one window if `longest` frames hold the utterance, else as few as do."""
    hop = frames if frames <= longest else longest - 2 * around
    return _windows(frames, around, hop, hop)


def stream_windows(frames: int, around: int, longest: int) -> Iterator[Window]:
    """Windows that begin short, so that sound is heard early, and grow."""
    return _windows(frames, around, FIRST, longest - 2 * around)


def _windows(frames: int, around: int, first: int, most: int) -> Iterator[Window]:
    start, hop = 0, first
    while start < frames:
        stop = min(frames, start + min(hop, most))
        yield Window(max(0, start - around), start, stop, min(frames, stop + around))
        start, hop = stop, 2 * hop
