"""Sizes and settings of a CosyVoice checkpoint in the v2 layout, as frozen dataclasses.

Every number comes from the checkpoint's own YAML (read as data by `checkpoint.py`); the defaults are those the
published classes hard-code. `left_chunks` < 0 means unlimited left context, as in the official files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tritone.audio.mel import MelConfig
from tritone.lm.sampling import SamplingConfig

if TYPE_CHECKING:
    from tritone.families.cosyvoice.config.v1 import InterpolatingFlowConfig
    from tritone.families.cosyvoice.config.v3 import DitFlowConfig


@dataclass(frozen=True)
class LmConfig:
    """The speech-token language model around a Qwen2 backbone (whose own sizes are in its config.json).

    `extra_ids` rows follow the codes in the speech head and embedding. In v2 they are three (end, a second stop, fill)
    and sos and task_id have a table of their own; with `inline_markers` (v3) the first four are sos, end, task_id and
    fill, and the head has no bias.
    """

    hidden_size: int = 896
    speech_token_size: int = 6561
    extra_ids: int = 3
    inline_markers: bool = False
    published_minimum: bool = False
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    mix_ratio: tuple[int, int] = (5, 15)
    min_token_text_ratio: float = 2.0
    max_token_text_ratio: float = 20.0

    @property
    def head_size(self) -> int:
        """Rows of the speech head and embedding: the codes and what follows them."""
        return self.speech_token_size + self.extra_ids

    @property
    def end_id(self) -> int:
        """The id that says the speech is complete."""
        return self.speech_token_size + (1 if self.inline_markers else 0)

    @property
    def fill_id(self) -> int:
        """The id that asks for more text where text and speech alternate."""
        return self.speech_token_size + (3 if self.inline_markers else 2)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end a sequence: all that are no codes."""
        return tuple(range(self.speech_token_size, self.head_size))

    @property
    def early_ids(self) -> tuple[int, ...]:
        """Ids excluded before the minimum length.

        In v2 that is the end alone, as published. In v3 the published code takes sos for it, so that speech may end at
        once; here every stop id is excluded, unless `published_minimum` asks for the published ids.
        """
        return self.stop_ids if self.inline_markers and not self.published_minimum else self.stop_ids[:1]


@dataclass(frozen=True)
class EncoderConfig:
    """The upsampling conformer that turns speech tokens into mel-rate features."""

    dim: int = 512
    attention_heads: int = 8
    linear_units: int = 2048
    num_blocks: int = 6
    num_up_blocks: int = 4
    chunk_size: int = 25
    left_chunks: int = -1


@dataclass(frozen=True)
class EstimatorConfig:
    """The causal U-Net estimating the flow's velocity; `chunk_size` counts mel frames."""

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
        """Layers that keep their past keys and values."""
        return (self.num_mid_blocks + 2) * self.n_blocks

    @property
    def conv_state(self) -> tuple[int, int]:
        """Channels and frames of what the convolutions keep of their past inputs."""
        return self.in_channels + (2 * self.num_mid_blocks + 7) * self.channels[0], 2


@dataclass(frozen=True)
class CommonFlowConfig:
    """Speech tokens to mel: what flows of every layout have. `input_size` is the width of the token embedding.

    Where the estimator's mask has no bound on the left, streams look `stream_left_chunks` chunks back besides the
    prompt, or all the way where it is negative. `published_stream` has streams follow the published chunk schedule.
    """

    vocab_size: int = 6561
    input_size: int = 512
    output_size: int = 80
    spk_embed_dim: int = 192
    token_frame_rate: int = 25
    token_mel_ratio: int = 2
    pre_lookahead_len: int = 3
    steps: int = 10
    cfg_rate: float = 0.7
    training_cfg_rate: float = 0.2
    sigma_min: float = 1e-6
    stream_left_chunks: int = 3
    published_stream: bool = False


@dataclass(frozen=True)
class FlowConfig(CommonFlowConfig):
    """The flow of the v2 layout: an upsampling conformer, and a U-Net in its decoder."""

    encoder: EncoderConfig = EncoderConfig()
    estimator: EstimatorConfig = EstimatorConfig()


@dataclass(frozen=True)
class HiftConfig:
    """The HiFT vocoder: harmonic source filter network with an inverse STFT head.

    With `look_right` > 0 (v3) every convolution sees the past only, but the first, which sees so many frames ahead;
    its excitation has noise from a fixed table, which starts `noise_offset` draws into the published random stream.
    """

    in_channels: int = 80
    base_channels: int = 512
    nb_harmonics: int = 8
    sample_rate: int = 24000
    nsf_alpha: float = 0.1
    nsf_sigma: float = 0.003
    nsf_voiced_threshold: float = 10.0
    upsample_rates: tuple[int, ...] = (8, 5, 3)
    upsample_kernel_sizes: tuple[int, ...] = (16, 11, 7)
    istft_n_fft: int = 16
    istft_hop: int = 4
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    source_resblock_kernel_sizes: tuple[int, ...] = (7, 7, 11)
    source_resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    lrelu_slope: float = 0.1
    audio_limit: float = 0.99
    f0_channels: int = 512
    look_right: int = 0
    noise_offset: int = 0

    @property
    def causal(self) -> bool:
        """Whether the vocoder looks back only, but for `look_right` frames."""
        return self.look_right > 0

    @property
    def hop(self) -> int:
        """Samples per mel frame."""
        product = self.istft_hop
        for rate in self.upsample_rates:
            product *= rate
        return product


@dataclass(frozen=True)
class CosyVoiceConfig:
    """Everything the checkpoint's YAML says about the networks.

    `text_frontend` is "qwen" (text goes to the tokenizer as it is) or "phonemes" (through `tritone.text.phonemes`);
    `version` is the layout: 1 (CosyVoice-300M), 2 (CosyVoice2-0.5B) or 3 (Fun-CosyVoice3-0.5B).
    """

    version: int = 2
    sample_rate: int = 24000
    text_frontend: str = "qwen"
    lm: LmConfig = LmConfig()
    flow: FlowConfig | InterpolatingFlowConfig | DitFlowConfig = FlowConfig()
    hift: HiftConfig = HiftConfig()
    mel: MelConfig = field(default_factory=MelConfig)
