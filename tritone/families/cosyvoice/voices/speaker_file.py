"""The file of a checkpoint's voices: entries of arrays and text by voice name, in torch's format or in safetensors.

`spk2info.pt` is what the published tools read; `spk2info.safetensors` holds the same entries and needs no torch. A
directory has one of the two. Either is replaced in one step, and two writers wait for each other.
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
Entry = dict[str, Any]
"""One voice: key -> array of any shape, or text."""


def find_file(model_dir: Path | str) -> Path | None:
    """Return the directory's file of voices, or None if it has none; two of them are a CheckpointError."""
    files = [Path(model_dir) / name for name in FORMATS.values() if (Path(model_dir) / name).exists()]
    if len(files) > 1:
        raise CheckpointError(
            f"{model_dir} has both {' and '.join(path.name for path in files)}, which may disagree; keep one of them."
        )
    return files[0] if files else None


def read_entries(model_dir: Path | str) -> dict[str, Entry]:
    """Return the entries by voice name in the order of the file; empty without a file.

    Raises CheckpointError when the file is damaged, holds code, or is not a dict of dicts.
    """
    path = find_file(model_dir)
    if path is None:
        return {}
    entries = read_torch_file(path) if path.suffix == ".pt" else _read_safetensors(path)
    if not isinstance(entries, Mapping) or not all(isinstance(entry, Mapping) for entry in entries.values()):
        raise CheckpointError(f"{path} is not a dict of speakers, each a dict.")
    return {str(name): dict(entry) for name, entry in entries.items()}


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
