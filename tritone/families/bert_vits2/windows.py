"""The decoder's receptive field, and the windows in which long utterances and streams are decoded.

The decoder consists of convolutions, so a sample depends on the frames near it and on no others. A window with the
receptive field added on both sides therefore gives the samples of the whole utterance: no blending is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from tritone.families.bert_vits2.config import DECODER_KERNEL, ModelConfig

FIRST = 16
"""Frames of a stream's first window, 0.19 s. Each window is twice as long as the one before: by the time a window has
been played, the next one is ready."""


class Window(NamedTuple):
    """Frames `begin..end` are decoded, and the samples of frames `start..stop` are kept."""

    begin: int
    start: int
    stop: int
    end: int


def receptive_field(config: ModelConfig) -> int:
    """Return the number of frames on either side on which a frame's samples depend.

    The function walks from the samples of frame 0 back to the latents; at each rate, a range of positions becomes the
    range that it depends on.
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


def whole_windows(frames: int, context: int, longest: int) -> Iterator[Window]:
    """Return one window if `longest` frames hold the utterance, otherwise as few windows as possible."""
    hop = frames if frames <= longest else longest - 2 * context
    return _windows(frames, context, hop, hop)


def stream_windows(frames: int, context: int, longest: int) -> Iterator[Window]:
    """Return windows that begin short, so that the first audio arrives early, and grow."""
    return _windows(frames, context, FIRST, longest - 2 * context)


def _windows(frames: int, context: int, first: int, most: int) -> Iterator[Window]:
    start, hop = 0, first
    while start < frames:
        stop = min(frames, start + min(hop, most))
        yield Window(max(0, start - context), start, stop, min(frames, stop + context))
        start, hop = stop, 2 * hop
