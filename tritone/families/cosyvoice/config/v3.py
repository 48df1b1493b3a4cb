"""Sizes and settings of the networks that only v3 (Fun-CosyVoice3-0.5B) has.

The defaults are hard-coded in the published classes; settings they leave open are those of the official file.
"""

from __future__ import annotations

from dataclasses import dataclass

from tritone.families.cosyvoice.config.common import ChunkedFlow, CommonFlowConfig, LmConfig


@dataclass(frozen=True)
class InlineLmConfig(LmConfig):
    """The language model: that of v2, except that its markers are speech ids and its head has no bias.

    The first four ids after the codes are sos, end, task_id and fill. Before the minimum length the published code
    excludes sos instead of the end, so speech may end at once. Here every stop id is excluded, unless
    `published_minimum` asks for the published behaviour.
    """

    extra_ids: int = 200
    published_minimum: bool = False

    @property
    def end_id(self) -> int:
        return self.speech_token_size + 1

    @property
    def fill_id(self) -> int:
        return self.speech_token_size + 3

    @property
    def early_ids(self) -> tuple[int, ...]:
        return self.stop_ids[:1] if self.published_minimum else self.stop_ids

    @property
    def first_marker(self) -> int | None:
        return self.speech_token_size


@dataclass(frozen=True)
class LookaheadConfig:
    """The flow's encoder, two convolutions of width `channels`; `chunk_size` counts the tokens of a streaming chunk."""

    channels: int = 1024
    chunk_size: int = 25


@dataclass(frozen=True)
class DitConfig:
    """The diffusion transformer that estimates the flow's velocity; `chunk_size` counts mel frames."""

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
        """The number of attention layers, which keep past keys and values."""
        return self.depth

    @property
    def rotary_channels(self) -> int:
        """The number of leading channels in the first head's keys that have rotary positions."""
        return self.attention_head_dim

    @property
    def conv_state(self) -> tuple[int, int]:
        """Channels and frames of the past inputs that the convolutions keep."""
        return 2 * self.dim, self.position_kernel - 1


@dataclass(frozen=True)
class DitFlowConfig(ChunkedFlow, CommonFlowConfig):
    """The flow of v3: token embeddings with lookahead, each repeated, and a transformer in its decoder."""

    input_size: int = 80
    encoder: LookaheadConfig = LookaheadConfig()
    estimator: DitConfig = DitConfig()
