"""Sizes, ids and sampling of a checkpoint: the files this family reads, and the check that they fit each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tritone.errors import CheckpointError, ConfigError
from tritone.families.moss_ttsd.codec.config import CodecConfig, read_codec_config
from tritone.families.moss_ttsd.lm.config import AsteroidConfig, ChannelSampling, read_lm_config, read_sampling

CODEC_YAMLS = ("MOSS_TTSD_tokenizer.yaml", "xy_tokenizer_32k_config.yaml", "xy_tokenizer_config.yaml")
CODEC_WEIGHTS = ("MOSS_TTSD_tokenizer", "xy_tokenizer.ckpt", "codec")
LONGEST = 16384
"""The limit of prompt and speech together in rows, about 22 minutes; the released models were trained on no more."""


@dataclass(frozen=True)
class MossConfig:
    """The configuration of a whole dialogue system.

    Args:
        sampling: the default of each channel.
        longest: the limit of prompt and speech together, in rows.
    """

    lm: AsteroidConfig
    codec: CodecConfig
    sampling: tuple[ChannelSampling, ...]
    longest: int


def read_config(folder: Path) -> MossConfig:
    """Return the configuration in `folder`.

    Raises CheckpointError for a missing file, ConfigError when a file is wrong or two files contradict each other.
    """
    lm = read_lm_config(folder)
    yaml = first_present(folder, CODEC_YAMLS, "the codec's configuration")
    codec = read_codec_config(yaml)
    entries, _ = codec.codebook
    first, last = lm.speech_tokens
    if (lm.channels, last - first, lm.speech_vocab_size) != (codec.channels, entries, entries + 1):
        raise ConfigError(
            f"{folder}: the language model has {lm.channels} channels of {last - first} codes (and "
            f"{lm.speech_vocab_size} ids), the codec {yaml.name} {codec.channels} of {entries}; these are not a pair"
        )
    sampling, longest = read_sampling(folder, lm.channels)
    return MossConfig(lm, codec, sampling, min(longest or lm.max_position_embeddings, LONGEST))


def first_present(folder: Path, names: tuple[str, ...], what: str) -> Path:
    """Return the first of the names that exists in `folder`; CheckpointError lists them and the folder's files."""
    for name in names:
        if (folder / name).exists():
            return folder / name
    present = ", ".join(sorted(entry.name for entry in folder.iterdir())) if folder.is_dir() else ""
    raise CheckpointError(
        f"{folder} lacks {what}: one of {', '.join(names)}; it has {present or 'nothing'}. Copy or link it there."
    )
