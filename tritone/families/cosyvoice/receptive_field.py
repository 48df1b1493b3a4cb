"""How far the vocoder sees: the context a window of mel frames needs to sound as it does inside the whole utterance."""

from __future__ import annotations

import math

from tritone.families.cosyvoice.config import HiftConfig

PRE_KERNEL = POST_KERNEL = 7
F0_LAYERS, F0_KERNEL = 5, 3
F0_LOOK_RIGHT = 3
"""Frames the causal f0 network sees ahead, all of them in its first layer."""


def source_steps(config: HiftConfig) -> list[int]:
    """Stride that brings the source spectrum down to the rate of each level."""
    return [math.prod(config.upsample_rates[level + 1 :]) for level in range(len(config.upsample_rates))]


def context_frames(config: HiftConfig) -> int:
    """Mel frames needed on each side of a window for its waveform to equal that of the whole utterance.

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
    """Mel frames needed on each side of a window for its f0 to equal that of the whole utterance."""
    return F0_LAYERS


def _block_reach(kernel: int, dilations: tuple[int, ...]) -> int:
    return kernel // 2 * (sum(dilations) + len(dilations))
