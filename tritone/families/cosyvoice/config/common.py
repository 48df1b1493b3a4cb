"""Sizes and settings that every version of CosyVoice has, as frozen dataclasses; `v1`, `v2` and `v3` add their own.

All numbers come from the checkpoint's YAML, which `checkpoint` reads as data; the defaults are hard-coded in the
published classes. A negative `left_chunks` means unlimited left context, as in the official files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tritone.audio.mel import MelConfig
from tritone.lm.rules import SamplingConfig

if TYPE_CHECKING:
    from tritone.families.cosyvoice.versions import Version


@dataclass(frozen=True)
class LmConfig:
    """The speech-token language model. These are v2's settings; the sizes of its Qwen2 are in a config.json.

    The speech head and embedding have one row for each code, then `extra_ids` more: in v2 the end, a second stop and
    fill. `spk_embed_dim` is the length of the speaker embedding that conditions the model, 0 if none does.
    """

    hidden_size: int = 896
    speech_token_size: int = 6561
    extra_ids: int = 3
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    mix_ratio: tuple[int, int] = (5, 15)
    min_token_text_ratio: float = 2.0
    max_token_text_ratio: float = 20.0
    spk_embed_dim: int = 0

    @property
    def head_size(self) -> int:
        """The rows of the speech head and embedding: the codes and the ids after them."""
        return self.speech_token_size + self.extra_ids

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end a sequence: all that are not codes."""
        return tuple(range(self.speech_token_size, self.head_size))

    @property
    def end_id(self) -> int:
        """The id that means the speech is complete."""
        return self.speech_token_size

    @property
    def fill_id(self) -> int:
        """The id that asks for more text when text and speech alternate."""
        return self.speech_token_size + 2

    @property
    def early_ids(self) -> tuple[int, ...]:
        """The ids excluded before the minimum length: only the end, as published."""
        return (self.end_id,)

    @property
    def first_marker(self) -> int | None:
        """The speech id of sos (task_id is two ids later); None if the markers have an embedding table of their own."""
        return None


@dataclass(frozen=True)
class CommonFlowConfig:
    """The settings that the flows of all versions share; a flow turns speech tokens into mel.

    `input_size` is the width of the token embedding. If the estimator's mask has no bound on the left, streams attend
    to the prompt and to `stream_left_chunks` earlier chunks (to all of them if negative). `published_stream` makes
    streams follow the published chunk schedule.
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

    def frames(self, tokens: int) -> int:
        """Return the number of mel frames for a number of speech tokens."""
        return self.token_mel_ratio * tokens

    def total_frames(self, prompt_tokens: int, prompt_frames: int, tokens: int) -> int:
        """Return the number of mel frames of a prompt (whose mel has `prompt_frames`) and the speech after it."""
        return self.frames(prompt_tokens + tokens)

    @property
    def encoder_chunk(self) -> int | None:
        """Tokens per chunk of the encoder's attention mask; None for an encoder without one."""
        return None

    @property
    def estimator_chunk(self) -> int | None:
        """Frames per chunk of the estimator's attention mask; None for an estimator without one."""
        return None

    @property
    def left_chunks(self) -> int:
        """The number of earlier chunks that the estimator attends to; negative for all, as without a mask."""
        return -1

    @property
    def chunk_tokens(self) -> int:
        """The speech tokens per streaming chunk; ValueError for a flow without chunks."""
        raise ValueError("this flow has no chunks: it needs the whole utterance and cannot be computed chunk by chunk")


class ChunkedFlow:
    """A flow whose networks attend in chunks, by which its streams advance (v2 and v3)."""

    encoder: Any
    estimator: Any

    @property
    def estimator_chunk(self) -> int | None:
        return int(self.estimator.chunk_size)

    @property
    def left_chunks(self) -> int:
        return int(self.estimator.left_chunks)

    @property
    def chunk_tokens(self) -> int:
        return int(self.encoder.chunk_size)


@dataclass(frozen=True)
class HiftConfig:
    """The HiFT vocoder: a harmonic source filter network with an inverse STFT head.

    With `look_right` > 0 (v3) the first convolution looks that many frames ahead and all others only back.
    `excitation` names the way the harmonic source turns f0 into phase (see `vocoder.source`); the "stepped" one has
    fixed noise, a table that starts `noise_offset` draws into the published random stream.
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
    excitation: Literal["running", "interpolated", "stepped"] = "interpolated"
    noise_offset: int = 0

    @property
    def causal(self) -> bool:
        """True if the vocoder looks back only, except for `look_right` frames."""
        return self.look_right > 0

    @property
    def hop(self) -> int:
        """The number of samples per mel frame."""
        product = self.istft_hop
        for rate in self.upsample_rates:
            product *= rate
        return product


@dataclass(frozen=True)
class CosyVoiceConfig:
    """A checkpoint's version and all network settings of its YAML.

    `text_frontend` is "qwen" or "whisper" (the text goes straight to that tokenizer) or "phonemes" (it goes through
    `tritone.text.phonemes` first).
    """

    version: Version
    sample_rate: int
    text_frontend: str
    lm: LmConfig
    flow: CommonFlowConfig
    hift: HiftConfig
    mel: MelConfig
