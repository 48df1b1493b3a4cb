"""Sizes of an XY_Tokenizer, read from the YAML beside its weights and checked against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tritone.checkpoint.documents import YAML_BYTES, parse_yaml, read_text
from tritone.checkpoint.sizes import HEADS, LAYERS, POSITIONS, RATE, WIDTH, WINDOW, Bound, shown, whole
from tritone.errors import ConfigError

WINDOW_SECONDS = 30
"""The most that one pass of the networks covers; longer recordings and codes go through overlapping windows."""
MEL_HOP, MEL_CHANNELS, INPUT_RATE = 160, 80, 16000
"""The input features are Whisper's with 80 channels."""


BOUNDS = {
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_layers"), LAYERS),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), HEADS),
    **dict.fromkeys(("sampling_rate", "input_sample_rate", "output_sample_rate"), RATE),
    **dict.fromkeys(("n_fft", "hop_size", "hop_length"), WINDOW),
    "avg_pooler": Bound(1, 64),
    "codebook_size": Bound(1, 1 << 20),
    "max_audio_seconds": Bound(1, 3600),
    "max_source_positions": POSITIONS,
    "num_quantizers": Bound(1, 64),
}
"""The bounds of the sizes by name; widths have the usual one."""


@dataclass(frozen=True)
class StackConfig:
    """A stack of transformer layers: Whisper's encoder, its mirror image as a decoder, or an adapter between the two.

    Args:
        positions: length of the table of positions.
        input_size, output_size: those of an adapter whose neighbours are wider or narrower than itself.
    """

    size: int
    heads: int
    ffn: int
    layers: int
    positions: int
    input_size: int
    output_size: int


class VocosConfig(NamedTuple):
    """Sizes of the vocoder."""

    size: int
    inner: int
    layers: int
    n_fft: int
    hop: int


@dataclass(frozen=True)
class CodecConfig:
    """Sizes of one checkpoint.

    Args:
        pool: encoder frames in one code.
        codebook: number of vectors, and their width.
        upsample: output samples in one code.
    """

    semantic_encoder: StackConfig
    semantic_encoder_adapter: StackConfig
    acoustic_encoder: StackConfig
    pre_rvq_adapter: StackConfig
    post_rvq_adapter: StackConfig
    acoustic_decoder: StackConfig
    pool: int
    channels: int
    codebook: tuple[int, int]
    vocos: VocosConfig
    sample_rate: int
    upsample: int

    @property
    def code_samples(self) -> int:
        """Input samples, at 16 kHz, in one code."""
        return 2 * self.pool * MEL_HOP

    @property
    def window_codes(self) -> int:
        """The most codes in one pass."""
        return WINDOW_SECONDS * INPUT_RATE // self.code_samples


def released(rate: int = 32000) -> CodecConfig:
    """Return the sizes of a released codec, whose output rate is 32000 or 24000 Hz."""
    whisper = StackConfig(size=768, heads=12, ffn=3072, layers=12, positions=1500, input_size=768, output_size=768)
    adapter, hop = replace(whisper, layers=4), rate // 100
    return CodecConfig(
        semantic_encoder=whisper,
        semantic_encoder_adapter=adapter,
        acoustic_encoder=whisper,
        pre_rvq_adapter=replace(adapter, input_size=1536),
        post_rvq_adapter=replace(adapter, positions=375, input_size=3072, output_size=3072),
        acoustic_decoder=whisper,
        pool=4,
        channels=8,
        codebook=(1024, 512),
        vocos=VocosConfig(size=512, inner=4096, layers=30, n_fft=4 * hop, hop=hop),
        sample_rate=rate,
        upsample=8 * hop,
    )


def read_codec_config(path: Path) -> CodecConfig:
    """Return the sizes in the YAML at `path`.

    Raises ConfigError, which names the file and the entry that is missing, not a number, or contradicts another.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; give the YAML file of the codec, such as xy_tokenizer_config.yaml")
    parsed = parse_yaml(read_text(path, YAML_BYTES), str(path))
    if not isinstance(parsed, Mapping) or not isinstance(parsed.get("generator_params"), Mapping):
        held = ", ".join(map(str, parsed)) if isinstance(parsed, Mapping) else type(parsed).__name__
        raise ConfigError(f"{path} has no section generator_params; found {held or 'nothing'}")
    try:
        return codec_config(parsed["generator_params"])
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def codec_config(params: Mapping[str, Any]) -> CodecConfig:
    """Return the sizes in the section `generator_params`, which a Hugging Face folder has as its `config.json`."""
    at = _Reader(params)
    down, vocos = at.section("downsample_kwargs"), at.section("vocos_kwargs")
    quantizer, features = at.section("quantizer_kwargs"), at.section("feature_extractor_kwargs")
    size, pool = down.number("d_model"), down.number("avg_pooler")

    def adapter(name: str) -> StackConfig:
        return _adapter(at.section(f"{name}_kwargs"))

    config = CodecConfig(
        semantic_encoder=_audio_stack(at.section("semantic_encoder_kwargs"), "encoder"),
        semantic_encoder_adapter=adapter("semantic_encoder_adapter"),
        acoustic_encoder=_audio_stack(at.section("acoustic_encoder_kwargs"), "encoder"),
        pre_rvq_adapter=adapter("pre_rvq_adapter"),
        post_rvq_adapter=adapter("post_rvq_adapter"),
        acoustic_decoder=_audio_stack(at.section("acoustic_decoder_kwargs"), "decoder"),
        pool=pool,
        channels=quantizer.number("num_quantizers"),
        codebook=(quantizer.number("codebook_size"), quantizer.number("codebook_dim")),
        vocos=VocosConfig(*map(vocos.number, ("dim", "intermediate_dim", "num_layers", "n_fft", "hop_size"))),
        sample_rate=at.number("output_sample_rate"),
        upsample=at.number("decoder_upsample_rate"),
    )
    at.require("input_sample_rate", INPUT_RATE)
    at.require("encoder_downsample_rate", config.code_samples)
    at.require("decoder_upsample_rate", 2 * pool * config.vocos.hop)
    at.section("upsample_kwargs").require("stride", pool)
    quantizer.require("rvq_dim", config.codebook[1])
    quantizer.require("input_dim", size * pool)
    quantizer.require("output_dim", size * pool)
    vocos.require("input_channels", MEL_CHANNELS)
    for key, value in (("sampling_rate", INPUT_RATE), ("hop_length", MEL_HOP), ("n_fft", 400), ("feature_size", 80)):
        features.require(key, value)
    return config


class _Reader:
    """The entries of a section, with errors that give the full name of the entry."""

    def __init__(self, entries: Mapping[str, Any], name: str = "") -> None:
        self.entries, self.name = entries, name

    def section(self, key: str) -> _Reader:
        section = self.entries.get(key)
        if not isinstance(section, Mapping):
            raise ConfigError(f"section {self.name}{key} is missing; found {', '.join(map(str, self.entries))[:400]}")
        return _Reader(section, f"{self.name}{key}.")

    def number(self, key: str, default: int | None = None) -> int:
        value = self.entries.get(key, default)
        return whole(value, f"{self.name}{key}", BOUNDS.get(key, WIDTH))

    def require(self, key: str, value: int) -> None:
        if self.number(key) != value:
            raise ConfigError(f"{self.name}{key} is {shown(self.entries[key])}; the other entries require {value}")


def _audio_stack(at: _Reader, kind: str) -> StackConfig:
    """Return the sizes of a stack with two convolutions between mel frames and hidden frames at one end."""
    if at.entries.get("scale_embedding"):
        raise ConfigError(f"{at.name}scale_embedding is true; no published codec scales its embeddings")
    for key, value in (("kernel_size", 3), ("stride_size", 2), ("num_mel_bins", MEL_CHANNELS)):
        at.require(key, value)
    size = at.number("d_model")
    frames = at.number("max_audio_seconds") * at.number("sampling_rate") // at.number("hop_length")
    return StackConfig(
        size,
        at.number(f"{kind}_attention_heads"),
        at.number(f"{kind}_ffn_dim"),
        at.number(f"{kind}_layers"),
        frames // 2,
        size,
        size,
    )


def _adapter(at: _Reader) -> StackConfig:
    return StackConfig(
        at.number("d_model"),
        at.number("encoder_attention_heads"),
        at.number("encoder_ffn_dim"),
        at.number("encoder_layers"),
        at.number("max_source_positions"),
        at.number("input_dim"),
        at.number("output_dim"),
    )
