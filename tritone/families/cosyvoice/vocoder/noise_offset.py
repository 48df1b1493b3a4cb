"""The start of the fixed noise of v3's vocoder in the random stream of the published construction."""

from __future__ import annotations

import dataclasses

from tritone.families.cosyvoice.config.common import CommonFlowConfig, CosyVoiceConfig, HiftConfig
from tritone.families.cosyvoice.flow.noise import FRAMES
from tritone.families.cosyvoice.vocoder.receptive_field import F0_KERNEL, F0_LAYERS, F0_LOOK_RIGHT


def draws_before_noise(flow: CommonFlowConfig, hift: HiftConfig) -> int:
    """Return the number of random draws of the published construction between its seed and the vocoder's noise table.

    In order: the flow's starting noise, its embedding and speaker layer, the f0 network's convolutions and read-out,
    and the start phases of the harmonics.
    """
    f0 = hift.f0_channels
    before = flow.output_size * FRAMES + flow.vocab_size * flow.input_size + (flow.spk_embed_dim + 1) * flow.output_size
    first = f0 * hift.in_channels * (F0_LOOK_RIGHT + 1) + f0
    others = (F0_LAYERS - 1) * (f0 * f0 * F0_KERNEL + f0)
    return before + first + others + f0 + 1 + hift.nb_harmonics + 1


def with_noise_offset(config: CosyVoiceConfig) -> CosyVoiceConfig:
    """Return the configuration with the vocoder's `noise_offset` computed from the other sizes."""
    offset = draws_before_noise(config.flow, config.hift)
    return dataclasses.replace(config, hift=dataclasses.replace(config.hift, noise_offset=offset))
