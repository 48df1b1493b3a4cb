"""Sizes and settings of the v3 layout (Fun-CosyVoice3-0.5B) where it has networks of its own.

The defaults are those the published classes hard-code or, where they leave it open, the official file's.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tritone.audio.mel import MelConfig
from tritone.families.cosyvoice.config.common import CommonFlowConfig, CosyVoiceConfig, HiftConfig, LmConfig
from tritone.families.cosyvoice.flow.noise import FRAMES
from tritone.families.cosyvoice.vocoder.receptive_field import F0_KERNEL, F0_LAYERS, F0_LOOK_RIGHT


@dataclass(frozen=True)
class LookaheadConfig:
    """The flow's encoder, two convolutions of width `channels`; `chunk_size` counts tokens of a streaming step."""

    channels: int = 1024
    chunk_size: int = 25


@dataclass(frozen=True)
class DitConfig:
    """The diffusion transformer estimating the flow's velocity; `chunk_size` counts mel frames."""

    dim: int = 1024
    depth: int = 22
    num_heads: int = 16
    attention_head_dim: int = 64
    ff_mult: int = 2
    mel_channels: int = 80
    mu_channels: int = 80
    spk_channels: int = 80
    out_channels: int = 80
    position_kernel: int = 31
    chunk_size: int = 50
    left_chunks: int = -1

    @property
    def attention_layers(self) -> int:
        """Layers that keep their past keys and values."""
        return self.depth

    @property
    def conv_state(self) -> tuple[int, int]:
        """Channels and frames of what the convolutions keep of their past inputs."""
        return 2 * self.dim, self.position_kernel - 1


@dataclass(frozen=True)
class DitFlowConfig(CommonFlowConfig):
    """The flow of the v3 layout: tokens with lookahead, repeated, and a transformer in its decoder."""

    input_size: int = 80
    encoder: LookaheadConfig = LookaheadConfig()
    estimator: DitConfig = DitConfig()


def draws_before_noise(flow: CommonFlowConfig, hift: HiftConfig) -> int:
    """Return how many random numbers the published construction draws between its seed and the vocoder's noise table.

    In order: the flow's starting noise, its embedding and speaker layer, the f0 network's convolutions and read-out,
    and the start phases of the harmonics.
    """
    f0 = hift.f0_channels
    before = 80 * FRAMES + flow.vocab_size * flow.input_size + (flow.spk_embed_dim + 1) * flow.output_size
    first = f0 * hift.in_channels * (F0_LOOK_RIGHT + 1) + f0
    others = (F0_LAYERS - 1) * (f0 * f0 * F0_KERNEL + f0)
    return before + first + others + f0 + 1 + hift.nb_harmonics + 1


def with_noise_offset(config: CosyVoiceConfig) -> CosyVoiceConfig:
    """Return the configuration with the vocoder's `noise_offset` computed from the other sizes."""
    offset = draws_before_noise(config.flow, config.hift)
    return dataclasses.replace(config, hift=dataclasses.replace(config.hift, noise_offset=offset))


V3 = with_noise_offset(
    CosyVoiceConfig(
        version=3,
        lm=LmConfig(extra_ids=200, inline_markers=True),
        flow=DitFlowConfig(),
        hift=HiftConfig(look_right=4),
        mel=MelConfig(fmax=None),
    )
)
"""The official sizes."""
