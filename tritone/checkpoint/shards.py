"""The files of a network in a Hugging Face folder: one file, or parts that an index names. Standard library only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tritone.checkpoint.documents import read_object
from tritone.errors import CheckpointError

KINDS = (("model", ".safetensors"), ("pytorch_model", ".bin"))
"""Stem and suffix of the files, in the order in which transformers looks for them; the first kind present is read."""
_PART = re.compile(r"-(\d+)-of-(\d+)$")


def index_of(stem: str, suffix: str) -> str:
    """Return the name of the file that says which part has which tensor."""
    return f"{stem}{suffix}.index.json"


def network_files(folder: Path) -> list[Path]:
    """Return the files of weights, those of safetensors where both kinds are present; empty if there are none.

    Raises CheckpointError for a whole network beside parts of one, and when a part or an entry of the index is missing.
    """
    for stem, suffix in KINDS:
        files = _files(folder, stem, suffix)
        if files:
            return files
    return []


def index_files(folder: Path) -> list[Path]:
    """Return the indexes that are present."""
    return [path for kind in KINDS if (path := folder / index_of(*kind)).is_file()]


def _files(folder: Path, stem: str, suffix: str) -> list[Path]:
    present = sorted(folder.glob(f"{stem}*{suffix}"))
    parts = [path for path in present if _PART.search(path.stem)]
    whole, index = [path for path in present if path not in parts], folder / index_of(stem, suffix)
    if (whole and parts) or len(whole) > 1:
        names = ", ".join(path.name for path in present[:6])
        raise CheckpointError(f"{folder} has several networks, {names}; keep the files of one of them")
    if parts and index.is_file():
        return _indexed(folder, index)
    missing = _missing(parts)
    if missing:
        raise CheckpointError(f"{folder} has {len(parts)} parts of a network but lacks {missing}; copy it there")
    return whole or parts


def _indexed(folder: Path, index: Path) -> list[Path]:
    """Return the files that the index names."""
    table = read_object(index, 64 << 20, CheckpointError).get("weight_map")
    values: list[Any] = list(table.values()) if isinstance(table, dict) else [None]
    if not all(isinstance(name, str) and Path(name).name == name for name in values):
        raise CheckpointError(f"{index} has no weight_map from tensors to file names")
    names = sorted(set(values))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} lacks {', '.join(missing[:6])}, which {index.name} names; copy it there")
    return [folder / name for name in names]


def _missing(parts: list[Path]) -> str:
    """Return the name of the first part that is not there; empty if all are."""
    numbers = [match.groups() for path in parts if (match := _PART.search(path.stem))]
    if not numbers:
        return ""
    width, total = len(numbers[0][0]), numbers[0][1]
    have = {int(number) for number, of in numbers if of == total}
    lost = next((number for number in range(1, min(int(total), 10_000) + 1) if number not in have), None)
    if lost is None:
        return ""
    stem = _PART.sub("", parts[0].stem)
    return f"{stem}-{lost:0{width}d}-of-{total}{parts[0].suffix}"
