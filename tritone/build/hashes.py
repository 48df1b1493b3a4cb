"""SHA-256 of files and folders, remembered so that gigabytes of weights are read once."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tritone.build.files import read_json, write_json
from tritone.build.layout import files_of

CHUNK = 1 << 22


class Hashes:
    """SHA-256 of files, remembered by path, size and modification time in the JSON file `cache` if one is given.

    With `afresh`, nothing that was remembered is believed: every file is read once.
    """

    def __init__(self, cache: Path | None = None, afresh: bool = False) -> None:
        self._cache = cache
        self._known: dict[str, list[Any]] = read_json(cache) if cache and not afresh else {}

    def file(self, path: Path) -> str:
        """Return the hex digest of the file's content."""
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        known = self._known.get(str(path.resolve()))
        if isinstance(known, list) and len(known) == 3 and known[:2] == stamp:
            return str(known[2])
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(CHUNK):
                digest.update(block)
        self._known[str(path.resolve())] = [*stamp, digest.hexdigest()]
        return digest.hexdigest()

    def tree(self, root: Path) -> str:
        """Return the hex digest over the names and contents of the files in a folder, or over one file's content.

        The data file beside an ONNX file counts as part of it.
        """
        if root.is_file():
            parts = [self.file(part) for part in files_of(root)]
            return parts[0] if len(parts) == 1 else hashlib.sha256(" ".join(parts).encode()).hexdigest()
        return self.files(root, sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()))

    def files(self, root: Path, names: Iterable[str]) -> str:
        """Return the hex digest over the names and contents of files, whose names are paths below the folder."""
        lines = [f"{name} {self.file(root / name)}\n" for name in names]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def save(self) -> None:
        """Write the digests to the cache for the next process; in a read-only folder nothing is written."""
        with contextlib.suppress(OSError):
            if self._cache:
                write_json(self._cache, self._known)
