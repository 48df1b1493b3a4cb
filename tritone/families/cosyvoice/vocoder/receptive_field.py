"""The receptive field of the vocoder: the context that makes a window of mel sound as in the whole utterance."""

from __future__ import annotations

import math
from typing import NamedTuple

from tritone.families.cosyvoice.config.common import HiftConfig

PRE_KERNEL = POST_KERNEL = 7
F0_LAYERS, F0_KERNEL = 5, 3
F0_LOOK_RIGHT = 3
"""Frames the causal f0 network looks ahead, all of them in its first layer."""


class Reach(NamedTuple):
    """Frames of context around the frames that are kept: of mel on the left and right, of source on the right."""

    left: int
    right: int
    source_right: int


def vocoder_reach(config: HiftConfig) -> Reach:
    """Return the context with which the waveform of a window equals that of the whole utterance."""
    if config.causal:
        return _causal_reach(config)
    around = context_frames(config)
    return Reach(around, around, around)


def f0_reach(config: HiftConfig) -> tuple[int, int]:
    """Return the mel frames left and right of a window with which its f0 equals that of the whole utterance."""
    if config.causal:
        return (F0_LAYERS - 1) * (F0_KERNEL - 1), F0_LOOK_RIGHT
    return f0_context_frames(), f0_context_frames()


def _causal_reach(config: HiftConfig) -> Reach:
    """Return the frames that the first and the last sample of frame 0 depend on, from the last layer to the first.

    At each level a range of positions `low..high` becomes a range of spectra, of samples, and of frames.
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
        if level == len(config.upsample_rates) - 1:  # the mirrored frame comes before the others
            low, high = low - 1, high - 1
        low = (low - config.upsample_kernel_sizes[level] + 1) // config.upsample_rates[level]
        high = high // config.upsample_rates[level]
    return Reach(max(left, -low), high + config.look_right, source_right)


def source_steps(config: HiftConfig) -> list[int]:
    """Return the stride between the rate of the source spectrum and the rate of each level."""
    return [math.prod(config.upsample_rates[level + 1 :]) for level in range(len(config.upsample_rates))]


def context_frames(config: HiftConfig) -> int:
    """Return the mel frames on each side of a window with which its waveform equals that of the whole utterance.

    Adds the layers' reach in frames, from the waveform back to the inputs; the farther of mel and source counts.
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
    """Return the mel frames on each side of a window with which its f0 equals that of the whole utterance."""
    return F0_LAYERS


def _block_reach(kernel: int, dilations: tuple[int, ...]) -> int:
    return kernel // 2 * (sum(dilations) + len(dilations))
