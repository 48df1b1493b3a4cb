"""A folder from which a voice is served.

config.json  G_<step>.pth  [bert/<encoder of a language>/]  [emotion.npy, or empty_emo.npy]

`locate.py` finds the first two where published training code puts them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tritone.checkpoint.files_read import existing, relative, weights
from tritone.families.bert_vits2.config import BertVits2Config, read_config
from tritone.families.bert_vits2.emotion import kind_of_file, told_by_weights
from tritone.families.bert_vits2.emotion_input import OWN_EMOTIONS, own_emotion
from tritone.families.bert_vits2.locate import config_file, generator_file
from tritone.families.bert_vits2.voice import Voice

if TYPE_CHECKING:
    from tritone.families.bert_vits2.networks.generator import Generator

BERT_FOLDERS = {
    "ZH": ("ZH", "chinese-roberta-wwm-ext-large"),
    "JP": ("JP", "deberta-v2-large-japanese-char-wwm"),
    "EN": ("EN", "deberta-v3-large"),
}
"""The accepted names of each language's encoder folder, below `bert/` of the checkpoint."""


@dataclass(frozen=True)
class BertVits2Checkpoint:
    """A folder whose configuration is read and whose generator is loaded on demand."""

    folder: Path
    config: BertVits2Config
    generator: Path
    config_file: Path

    def load(self) -> Generator:
        """Return the generator in eval mode with the weight norm folded; every call returns the same one."""
        return self._loaded

    @cached_property
    def _loaded(self) -> Generator:
        from tritone.families.bert_vits2.networks.weights import load_generator
        from tritone.nn.weight_norm import fold_weight_norm

        return fold_weight_norm(load_generator(self.generator, self.config)).eval()

    @property
    def voice(self) -> Voice:
        """The part of the checkpoint that reads requests."""
        return Voice(self.config, self.bert_folders, own_emotion(self.folder, self.config.emotion))

    @property
    def bert_folders(self) -> dict[str, Path]:
        """The folder of each language's BERT encoder, for the languages that have one."""
        folders: dict[str, Path] = {}
        for language, names in BERT_FOLDERS.items():
            present = [path for name in names if (path := self.folder / "bert" / name).is_dir()]
            if present:
                folders[language] = present[0]
        return folders

    @property
    def files(self) -> tuple[str, ...]:
        """The files that answers depend on, below the folder: settings, generator, emotion, and the BERT encoders."""
        generators = weights(self.generator.parent, (self.generator.name,))
        encoders = (path for encoder in self.bert_folders.values() for path in sorted(encoder.iterdir()))
        return relative(
            self.folder,
            (
                self.config_file,
                *generators,
                *(existing(self.folder, OWN_EMOTIONS)[:1] if self.config.emotion.numbers else ()),
                *(path for path in encoders if path.is_file() and ENCODER(path.name)),
            ),
        )


ENCODER = re.compile(
    r"((config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|preprocessor_config"
    r"|processor_config|chat_template)\.json|(vocab|merges)\.txt|.*\.(model|jinja)|(model|pytorch_model)[^/]*\."
    r"(safetensors|bin)(\.index\.json)?)"
).fullmatch
"""Matches the names of files that transformers reads in the folder of an encoder."""


def open_checkpoint(folder: Path, generator: Path | None = None) -> BertVits2Checkpoint:
    """Return the checkpoint in `folder`, without reading weights.

    Args:
        generator: the file of weights to use; by default the newest of the one place that has any.

    Raises:
        CheckpointError: the generator is missing, or is of another version than config.json says.
        ConfigError: config.json is missing or invalid.
    """
    path = generator_file(folder) if generator is None else generator
    config_path = config_file(folder, path)
    config, kind = read_config(config_path), kind_of_file(path)
    if kind is not None:
        config = told_by_weights(config, kind, path)
    return BertVits2Checkpoint(folder, config, path, config_path)
