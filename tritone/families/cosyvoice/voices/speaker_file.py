"""The file of a checkpoint's voices: entries of arrays and text by voice name, in torch's format or in safetensors.

`spk2info.pt` is what the published tools read; `spk2info.safetensors` holds the same entries and needs no torch;
`spk2embedding.pt` is what the published extractor writes, an embedding for each name. A directory has one of the three.
A file is replaced in one step, and two writers wait for each other.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tritone.build.files import write_atomic
from tritone.checkpoint.documents import parse_json
from tritone.checkpoint.torch_file import read_torch_file
from tritone.errors import CheckpointError, ConfigError, EnvironmentProblem

FORMATS = {"safetensors": "spk2info.safetensors", "pt": "spk2info.pt"}
LISTED = 4_000_000
"""Most numbers that a file may have in lists instead of tensors."""
FILES = (*FORMATS.values(), "spk2embedding.pt")
Entry = dict[str, Any]
"""One voice: key -> array of any shape, or text."""


def find_file(model_dir: Path | str) -> Path | None:
    """Return the directory's file of voices, or None if it has none; two of them are a CheckpointError."""
    files = [Path(model_dir) / name for name in FILES if (Path(model_dir) / name).exists()]
    if len(files) > 1:
        raise CheckpointError(
            f"{model_dir} has both {' and '.join(path.name for path in files)}, which may disagree; keep one of them."
        )
    return files[0] if files else None


def read_entries(model_dir: Path | str) -> dict[str, Entry]:
    """Return the entries by voice name in the order of the file; empty without a file.

    An entry that is an embedding alone, as a tensor, an array or a list of numbers, becomes one with that `embedding`.

    Raises CheckpointError when the file is damaged, holds code, or is not a dict of such entries.
    """
    path = find_file(model_dir)
    if path is None:
        return {}
    entries = read_torch_file(path) if path.suffix == ".pt" else _read_safetensors(path)
    if not isinstance(entries, Mapping):
        raise CheckpointError(f"{path} holds a {type(entries).__name__}, not a dict of speakers.")
    numbers = _Numbers(path)
    return {str(name): _entry(str(name), entry, path, numbers) for name, entry in entries.items()}


def _entry(name: str, entry: Any, path: Path, numbers: _Numbers) -> Entry:
    """Return a voice's entry with lists of numbers as arrays; CheckpointError if it is of another kind."""
    if isinstance(entry, Mapping):
        return {str(key): numbers.array(value) for key, value in entry.items()}
    embedding = numbers.array(entry)
    if not isinstance(embedding, np.ndarray):
        raise CheckpointError(
            f"{path}: speaker {name!r} is a {type(entry).__name__}; expected a dict with an embedding, or an embedding "
            f"as a tensor or a list of numbers."
        )
    return {"embedding": embedding}


class _Numbers:
    """Makes arrays of a file's lists of numbers, of so many numbers in all: one list may stand at many places."""

    def __init__(self, path: Path) -> None:
        self._path, self._left = path, LISTED

    def array(self, value: Any) -> Any:
        """Return a list of numbers, or of such lists, as float32; any other value as it is."""
        if not isinstance(value, list | tuple) or not value or not self._count(value, 4):
            return value
        try:
            array = np.asarray(value)
        except ValueError:  # lists of different lengths
            return value
        return array.astype(np.float32) if array.dtype.kind in "fiu" else value

    def _count(self, value: Any, depth: int) -> bool:
        """Return whether a value is a number, or lists of numbers inside at most that many lists."""
        if isinstance(value, list | tuple):
            return depth > 0 and all(self._count(item, depth - 1) for item in value)
        self._left -= 1
        if self._left < 0:
            raise CheckpointError(f"{self._path} has more than {LISTED} numbers in lists; save them as tensors.")
        return isinstance(value, int | float) and abs(value) < 1 << 53


def write_entries(model_dir: Path | str, entries: Mapping[str, Mapping[str, Any]], kind: str = "") -> Path:
    """Writes all entries and returns the file; one of the other kind is removed once the new one is complete.

    Args:
        kind: "safetensors" or "pt"; by default that of the present file, and safetensors where there is none.
    """
    directory = Path(model_dir)
    present = find_file(directory)
    kind = kind or (present.suffix[1:] if present else "safetensors")
    if kind not in FORMATS:
        raise ConfigError(f"voices are written as {' or '.join(FORMATS)}, not as {kind!r}.")
    path = directory / FORMATS[kind]
    data = _torch_bytes(entries) if kind == "pt" else _safetensors_bytes(entries)
    write_atomic(path, lambda file: file.write(data))
    if present is not None and present != path:
        present.unlink()
    return path


@contextmanager
def edit_entries(model_dir: Path | str, kind: str = "") -> Iterator[dict[str, Entry]]:
    """Yield the entries to change in place; written when the block ends without an error, one editor at a time."""
    try:
        directory = os.open(model_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise CheckpointError(f"there is no checkpoint directory {model_dir}.") from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        entries = read_entries(model_dir)
        yield entries
        write_entries(model_dir, entries, kind)
    finally:
        os.close(directory)


def _torch_bytes(entries: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return bytes that `torch.load(weights_only=True)` reads as a dict of dicts of tensors and text."""
    import io

    try:
        import torch
    except ImportError as error:
        raise EnvironmentProblem("writing spk2info.pt needs torch; write safetensors instead (--format)") from error

    def value(item: Any) -> Any:
        return torch.from_numpy(np.ascontiguousarray(item)) if isinstance(item, np.ndarray) else item

    buffer = io.BytesIO()
    torch.save({name: {key: value(item) for key, item in entry.items()} for name, entry in entries.items()}, buffer)
    return buffer.getvalue()


def _safetensors_bytes(entries: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return arrays under "voice number.key"; names, text and plain numbers in the metadata, as JSON."""
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {}
    plain: list[dict[str, Any]] = []
    for index, entry in enumerate(entries.values()):
        arrays |= {
            f"{index}.{key}": np.ascontiguousarray(value)
            for key, value in entry.items()
            if isinstance(value, np.ndarray)
        }
        plain.append({key: value for key, value in entry.items() if not isinstance(value, np.ndarray)})
    metadata = {"names": json.dumps(list(entries)), "plain": json.dumps(plain)}
    return bytes(save(arrays, metadata))


def _read_safetensors(path: Path) -> dict[str, Entry]:
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            names, plain = (parse_json(metadata[key], f"its entry {key}") for key in ("names", "plain"))
            entries = [dict(entry) for entry in plain]
            for tensor in file.keys():  # noqa: SIM118 - the handle is not iterable itself
                index, key = tensor.split(".", 1)
                entries[int(index)][key] = file.get_tensor(tensor)
        return dict(zip(names, entries, strict=True))
    except Exception as error:  # the entries may be of any kind and in any order
        raise CheckpointError(f"{path} is damaged or was not written as a file of voices: {error}.") from error
