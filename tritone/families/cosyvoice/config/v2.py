"""Sizes and settings of the flow of v2 (CosyVoice2-0.5B)."""

from __future__ import annotations

from dataclasses import dataclass

from tritone.families.cosyvoice.config.common import ChunkedFlow, CommonFlowConfig


@dataclass(frozen=True)
class EncoderConfig:
    """The upsampling conformer that turns speech tokens into features at the mel rate."""

    dim: int = 512
    attention_heads: int = 8
    linear_units: int = 2048
    num_blocks: int = 6
    num_up_blocks: int = 4
    chunk_size: int = 25
    left_chunks: int = -1


@dataclass(frozen=True)
class EstimatorConfig:
    """The causal U-Net that estimates the flow's velocity; `chunk_size` counts mel frames."""

    in_channels: int = 320
    out_channels: int = 80
    channels: tuple[int, ...] = (256,)
    attention_head_dim: int = 64
    n_blocks: int = 4
    num_mid_blocks: int = 12
    num_heads: int = 8
    chunk_size: int = 50
    left_chunks: int = -1

    @property
    def attention_layers(self) -> int:
        """The number of attention layers, which keep past keys and values."""
        return (self.num_mid_blocks + 2) * self.n_blocks

    @property
    def rotary_channels(self) -> int:
        """The number of leading channels in the first head's keys that have rotary positions: none."""
        return 0

    @property
    def conv_state(self) -> tuple[int, int]:
        """Channels and frames of the past inputs that the convolutions keep."""
        return self.in_channels + (2 * self.num_mid_blocks + 7) * self.channels[0], 2


@dataclass(frozen=True)
class FlowConfig(ChunkedFlow, CommonFlowConfig):
    """The flow of v2: an upsampling conformer, and a U-Net in its decoder."""

    encoder: EncoderConfig = EncoderConfig()
    estimator: EstimatorConfig = EstimatorConfig()

    @property
    def encoder_chunk(self) -> int | None:
        return self.encoder.chunk_size
