"""Files of weights in torch's format or in safetensors: which of the two there is. Standard library only."""

from __future__ import annotations

from pathlib import Path

SAFE = ".safetensors"


def present(path: Path) -> list[Path]:
    """Return the files that exist of `path` and of the file of safetensors with the same stem."""
    return [found for found in dict.fromkeys((path, path.with_suffix(SAFE))) if found.is_file()]
