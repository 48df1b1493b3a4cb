"""A folder from which a whole dialogue system is served: the language model's files with the codec's beside them.

config.json  [generation_config.json]  tokenizer.json  model*.safetensors
xy_tokenizer_config.yaml | xy_tokenizer_32k_config.yaml | MOSS_TTSD_tokenizer.yaml
xy_tokenizer.ckpt | MOSS_TTSD_tokenizer | codec/ (a Hugging Face folder)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tritone.checkpoint.files_read import TEXT_TOKENIZER, existing, relative, weights
from tritone.checkpoint.shards import index_files, network_files
from tritone.families.moss_ttsd.codec.checkpoint import codec_files
from tritone.families.moss_ttsd.config import CODEC_WEIGHTS, CODEC_YAMLS, MossConfig, first_present, read_config

if TYPE_CHECKING:
    import torch

    from tritone.families.moss_ttsd.codec.network import XYTokenizer
    from tritone.families.moss_ttsd.lm.network import AsteroidLM


@dataclass(frozen=True)
class MossCheckpoint:
    """A folder whose configuration is read and whose weights are read on demand."""

    folder: Path
    config: MossConfig

    @property
    def files(self) -> tuple[str, ...]:
        """The files that answers depend on, below the folder: settings, tokenizer, language model and codec."""
        folder = self.folder
        codec = first_present(folder, CODEC_WEIGHTS, "the codec's weights")
        return relative(
            folder,
            (
                *existing(folder, ("config.json", "generation_config.json", "tokenizer.json", *TEXT_TOKENIZER)),
                first_present(folder, CODEC_YAMLS, "the codec's configuration"),
                *(weights(folder, (file.name for file in network_files(folder)))),
                *index_files(folder),
                *((*codec_files(codec), *index_files(codec)) if codec.is_dir() else weights(folder, (codec.name,))),
            ),
        )

    def load_lm(self, dtype: torch.dtype | None = None, attention: str = "eager") -> AsteroidLM:
        """Return the language model, by default in float32, with the attention that can be exported."""
        from tritone.families.moss_ttsd.lm.checkpoint import load_lm

        return load_lm(self.config.lm, self.folder, dtype, attention)

    def load_codec(self) -> XYTokenizer:
        """Return the codec in float32."""
        from tritone.families.moss_ttsd.codec.checkpoint import load_codec

        return load_codec(self.config.codec, first_present(self.folder, CODEC_WEIGHTS, "the codec's weights"))


def open_checkpoint(folder: Path) -> MossCheckpoint:
    """Return the checkpoint in `folder`.

    Raises CheckpointError for a missing file, ConfigError when a configuration is wrong or two contradict each other.
    """
    config = read_config(folder)
    first_present(folder, CODEC_WEIGHTS, "the codec's weights")
    return MossCheckpoint(folder, config)
