"""Lists of the files of a folder that a family reads, for the identity of the checkpoint. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tritone.checkpoint.beside import present
from tritone.checkpoint.onnx_data import data_files

TEXT_TOKENIZER = ("vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json")
"""What `tritone.text.tokenizer` reads."""


def existing(folder: Path, names: Iterable[str]) -> list[Path]:
    """Return the files that exist."""
    return [path for name in names if (path := folder / name).is_file()]


def weights(folder: Path, names: Iterable[str]) -> list[Path]:
    """Return the files of weights with those names that exist, and files of safetensors beside or in their place."""
    return [path for name in names for path in present(folder / name)]


def networks(folder: Path, names: Iterable[str]) -> list[Path]:
    """Return the ONNX files that exist, each with the files in which it keeps weights."""
    files = existing(folder, names)
    return [part for file in files for part in (file, *existing(file.parent, data_files(file)))]


def relative(folder: Path, files: Iterable[Path]) -> tuple[str, ...]:
    """Return the paths of files as seen from a folder, in order and once each."""
    return tuple(sorted({Path(os.path.relpath(path, folder)).as_posix() for path in files}))
