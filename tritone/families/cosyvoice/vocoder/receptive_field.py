"""How far the vocoder sees: the context a window of mel frames needs to sound as it does inside the whole utterance."""

from __future__ import annotations

import math
from typing import NamedTuple

from tritone.families.cosyvoice.config.common import HiftConfig

PRE_KERNEL = POST_KERNEL = 7
F0_LAYERS, F0_KERNEL = 5, 3
F0_LOOK_RIGHT = 3
"""Frames the causal f0 network sees ahead, all of them in its first layer."""


class Reach(NamedTuple):
    """Frames a window needs around the frames that are kept: of mel on the left and right, of source on the right."""

    left: int
    right: int
    source_right: int


def vocoder_reach(config: HiftConfig) -> Reach:
    """Context for the waveform of a window to equal that of the whole utterance."""
    if config.causal:
        return _causal_reach(config)
    around = context_frames(config)
    return Reach(around, around, around)


def f0_reach(config: HiftConfig) -> tuple[int, int]:
    """Return mel frames needed left and right of a window for its f0 to equal that of the whole utterance."""
    if config.causal:
        return (F0_LAYERS - 1) * (F0_KERNEL - 1), F0_LOOK_RIGHT
    return f0_context_frames(), f0_context_frames()


def _causal_reach(config: HiftConfig) -> Reach:
    """What the first and the last sample of frame 0 depend on, walked back through the layers.

    A range of positions `low..high` at the rate of each level becomes one of spectra, of samples, of frames.
    """
    n_fft, hop = config.istft_n_fft, config.istft_hop
    low, high = -((n_fft // 2 - 1) // hop), (config.hop - 1 + n_fft // 2) // hop
    low -= POST_KERNEL - 1
    left = source_right = 0
    for level in reversed(range(len(config.upsample_rates))):
        low -= max(
            2 * _block_reach(size, dilations)
            for size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        )
        kernel, dilations = config.source_resblock_kernel_sizes[level], config.source_resblock_dilation_sizes[level]
        step = source_steps(config)[level]
        first = (low - 2 * _block_reach(kernel, dilations)) * step - (step - 1)
        last = high * step + (step if step > 1 else 0)
        left = max(left, -((first * hop - n_fft // 2) // config.hop))
        source_right = max(source_right, (last * hop + n_fft // 2 - 1) // config.hop)
        if level == len(config.upsample_rates) - 1:  # the mirrored frame stands in front of the others
            low, high = low - 1, high - 1
        low = (low - config.upsample_kernel_sizes[level] + 1) // config.upsample_rates[level]
        high = high // config.upsample_rates[level]
    return Reach(max(left, -low), high + config.look_right, source_right)


def source_steps(config: HiftConfig) -> list[int]:
    """Stride that brings the source spectrum down to the rate of each level."""
    return [math.prod(config.upsample_rates[level + 1 :]) for level in range(len(config.upsample_rates))]


def context_frames(config: HiftConfig) -> int:
    """Return mel frames needed on each side of a window for its waveform to equal that of the whole utterance.

    Walks from the waveform back to the inputs, adding each layer's reach in frames; the farther of mel and source wins.
    """
    spectra = config.hop // config.istft_hop  # STFT frames per mel frame
    reach = (config.istft_n_fft / 2 / config.istft_hop + POST_KERNEL // 2) / spectra
    source = 0.0
    rate = spectra
    for level in reversed(range(len(config.upsample_rates))):
        kernel, step = config.upsample_kernel_sizes[level], config.upsample_rates[level]
        reach += (
            max(
                _block_reach(size, dilations)
                for size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
            )
            / rate
        )
        down = source_steps(config)[level]
        block = _block_reach(config.source_resblock_kernel_sizes[level], config.source_resblock_dilation_sizes[level])
        analysis = ((0 if down == 1 else 2 * down) + config.istft_n_fft / 2 / config.istft_hop) / spectra
        source = max(source, reach + block / rate + analysis)
        mirrored = 1 if level == len(config.upsample_rates) - 1 else 0
        reach += mirrored / rate
        rate //= step
        reach += math.ceil((kernel - 1 - (kernel - step) // 2) / step) / rate
    return math.ceil(max(reach + PRE_KERNEL // 2, source))


def f0_context_frames() -> int:
    """Return mel frames needed on each side of a window for its f0 to equal that of the whole utterance."""
    return F0_LAYERS


def _block_reach(kernel: int, dilations: tuple[int, ...]) -> int:
    return kernel // 2 * (sum(dilations) + len(dilations))
