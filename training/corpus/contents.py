"""A checksum of each recording, remembered by size and time, which tells features of other contents apart."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from tritone.build.files import write_json
from tritone.errors import EnvironmentProblem

FEATURES, FILE = "features", "contents.json"
MISSING = "missing"
"""Stands for a recording that was never there."""


def contents(folder: Path, paths: Sequence[Path]) -> list[str]:
    """Return a checksum of every recording of a corpus; those whose size and time are as remembered are not read.

    A recording that is gone keeps its checksum, so that features that were made from it remain usable.
    """
    known = _known(folder / FEATURES / FILE)
    found: dict[str, tuple[int, int, str]] = {}
    for path in paths:
        key = os.path.relpath(path, folder)
        before = known.get(key)
        try:
            about = path.stat()
            size, changed = about.st_size, about.st_mtime_ns
            found[key] = before if before and before[:2] == (size, changed) else (size, changed, _checksum(path))
        except OSError:
            found[key] = before or (0, 0, MISSING)
    if found != known:
        _remember(folder / FEATURES, found)
    return [found[os.path.relpath(path, folder)][2] for path in paths]


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:24]


def _known(path: Path) -> dict[str, tuple[int, int, str]]:
    """Return the checksums of an earlier call; none if their file is missing or damaged."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): (int(size), int(changed), str(digest)) for name, (size, changed, digest) in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _remember(folder: Path, found: dict[str, tuple[int, int, str]]) -> None:
    """Write the checksums atomically; several processes may do so at once. A folder that is read-only is left alone."""
    try:
        write_json(folder / FILE, found)
    except PermissionError:
        return
    except OSError as error:
        if error.errno == errno.EROFS:
            return
        raise EnvironmentProblem(f"{folder / FILE} cannot be written: {error.strerror or error}") from error
