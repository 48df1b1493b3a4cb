"""A folder from which a voice is served.

config.json  G_<step>.pth  [bert/<encoder of a language>/]  [emotion.npy, or empty_emo.npy]
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tritone.errors import CheckpointError
from tritone.families.bert_vits2.config import BertVits2Config, read_config
from tritone.families.bert_vits2.emotion import kind_of_file, told_by_weights
from tritone.families.bert_vits2.emotion_input import own_emotion
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


def open_checkpoint(folder: Path, generator: Path | None = None) -> BertVits2Checkpoint:
    """Return the checkpoint in `folder`, without reading weights.

    Args:
        generator: the file of weights to use; by default the newest in the folder.

    Raises:
        CheckpointError: the generator is missing, or is of another version than config.json says.
        ConfigError: config.json is missing or invalid.
    """
    config = read_config(folder / "config.json")
    path = generator_file(folder) if generator is None else generator
    kind = kind_of_file(path)
    if kind is not None:
        config = told_by_weights(config, kind, path)
    return BertVits2Checkpoint(folder, config, path)


def generator_file(folder: Path) -> Path:
    """Return the newest `G_<step>.pth` of the folder; raise CheckpointError if there is none."""
    steps = {int(match[1]): path for path in folder.glob("G_*.pth") if (match := re.fullmatch(r"G_(\d+)", path.stem))}
    if not steps:
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
        raise CheckpointError(
            f"{folder} has no generator: a Bert-VITS2 checkpoint has a G_<step>.pth beside config.json; found {names}"
        )
    return steps[max(steps)]
