"""A folder from which a whole dialogue system is served: the language model's files with the codec's beside them.

config.json  [generation_config.json]  tokenizer.json  model*.safetensors
xy_tokenizer_config.yaml | xy_tokenizer_32k_config.yaml | MOSS_TTSD_tokenizer.yaml
xy_tokenizer.ckpt | MOSS_TTSD_tokenizer | codec/ (a Hugging Face folder)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tritone.errors import CheckpointError, ConfigError
from tritone.families.moss_ttsd.codec.config import CodecConfig, read_codec_config
from tritone.families.moss_ttsd.lm.config import AsteroidConfig, ChannelSampling, read_lm_config, read_sampling

if TYPE_CHECKING:
    from tritone.families.moss_ttsd.codec.network import XYTokenizer
    from tritone.families.moss_ttsd.lm.network import AsteroidLM

CODEC_YAMLS = ("MOSS_TTSD_tokenizer.yaml", "xy_tokenizer_32k_config.yaml", "xy_tokenizer_config.yaml")
CODEC_WEIGHTS = ("MOSS_TTSD_tokenizer", "xy_tokenizer.ckpt", "codec")


@dataclass(frozen=True)
class MossCheckpoint:
    """A folder whose configurations are read and known to fit each other; weights are read when asked for."""

    folder: Path
    lm: AsteroidConfig
    codec: CodecConfig
    sampling: tuple[ChannelSampling, ...]
    longest: int

    def load_lm(self) -> AsteroidLM:
        """Return the language model, float32, with the attention that can be exported."""
        from tritone.families.moss_ttsd.lm.checkpoint import load_lm

        return load_lm(self.lm, self.folder, attention="eager")

    def load_codec(self) -> XYTokenizer:
        """Return the codec, float32."""
        from tritone.families.moss_ttsd.codec.checkpoint import load_codec

        return load_codec(self.codec, one_of(self.folder, CODEC_WEIGHTS, "the codec's weights"))


def open_checkpoint(folder: Path) -> MossCheckpoint:
    """Return the checkpoint in `folder`.

    Raises CheckpointError for a missing file, ConfigError where a configuration is wrong or two contradict each other.
    """
    lm = read_lm_config(folder)
    yaml = one_of(folder, CODEC_YAMLS, "the codec's configuration")
    codec = read_codec_config(yaml)
    one_of(folder, CODEC_WEIGHTS, "the codec's weights")
    rows, _ = codec.codebook
    first, last = lm.speech_tokens
    if (lm.channels, last - first, lm.speech_vocab_size) != (codec.channels, rows, rows + 1):
        raise ConfigError(
            f"{folder}: the language model has {lm.channels} channels of {last - first} codes (and "
            f"{lm.speech_vocab_size} ids), the codec {yaml.name} {codec.channels} of {rows}; these are not a pair"
        )
    sampling, longest = read_sampling(folder, lm.channels)
    return MossCheckpoint(folder, lm, codec, sampling, min(longest or lm.max_position_embeddings, LONGEST))


LONGEST = 16384
"""Rows of prompt and speech, about 22 minutes; the released models were trained on at most that."""


def one_of(folder: Path, names: tuple[str, ...], what: str) -> Path:
    """Return the first of the names that exists; CheckpointError lists them and what is there."""
    for name in names:
        if (folder / name).exists():
            return folder / name
    present = ", ".join(sorted(entry.name for entry in folder.iterdir())) if folder.is_dir() else ""
    raise CheckpointError(
        f"{folder} lacks {what}: one of {', '.join(names)}; it has {present or 'nothing'}. Copy or link it there."
    )
