"""Sizes and settings of the networks that only v1 (CosyVoice-300M) has.

The defaults are those of the official file; settings it does not have are as hard-coded in the published classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from tritone.families.cosyvoice.config.common import CommonFlowConfig, LmConfig


@dataclass(frozen=True)
class ConformerConfig:
    """Transformer blocks with relative positions; they attend to the past if `chunk_size` is 1, to all if it is 0."""

    dim: int = 512
    attention_heads: int = 8
    linear_units: int = 2048
    num_blocks: int = 6
    chunk_size: int = 0
    left_chunks: int = -1


@dataclass(frozen=True)
class TransformerLmConfig(LmConfig):
    """The language model: a causal conformer over the text, then a causal transformer over text and speech."""

    hidden_size: int = 1024
    speech_token_size: int = 4096
    extra_ids: int = 1
    text_token_size: int = 51866
    text_size: int = 512
    spk_embed_dim: int = 192
    text_encoder: ConformerConfig = ConformerConfig(1024, 16, 4096, 6, 1)
    decoder: ConformerConfig = ConformerConfig(1024, 16, 4096, 14, 1)


@dataclass(frozen=True)
class UnetConfig:
    """The U-Net that estimates the flow's velocity; each entry of `channels` after the first halves the frame rate."""

    in_channels: int = 320
    out_channels: int = 80
    channels: tuple[int, ...] = (256, 256)
    attention_head_dim: int = 64
    n_blocks: int = 4
    num_mid_blocks: int = 12
    num_heads: int = 8


@dataclass(frozen=True)
class InterpolatingFlowConfig(CommonFlowConfig):
    """The flow of v1: a conformer, interpolation from token rate to mel rate, and a U-Net in its decoder.

    The mel rate, `sample_rate / hop` frames a second, is not a multiple of the token rate, and there is no lookahead.
    """

    vocab_size: int = 4096
    token_frame_rate: int = 50
    token_mel_ratio: int = 0
    pre_lookahead_len: int = 0
    sample_rate: int = 22050
    hop: int = 256
    sampling_ratios: tuple[int, ...] = (1, 1, 1, 1)
    encoder: ConformerConfig = ConformerConfig()
    estimator: UnetConfig = UnetConfig()

    def frames(self, tokens: int) -> int:
        """Return the number of mel frames for a number of speech tokens, rounded down as published."""
        return int(tokens / self.token_frame_rate * self.sample_rate / self.hop)

    def total_frames(self, prompt_tokens: int, prompt_frames: int, tokens: int) -> int:
        return prompt_frames + self.frames(tokens)
