"""Files that are either complete or absent whatever interrupts their writing, and a lock on a folder.

Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tritone.build.disk import in_words, remove_parts
from tritone.errors import ArtifactError, EnvironmentProblem


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write` with a new file that replaces `path` once it is complete; before that `path` stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_parts(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    # The rename survives a power cut only once the directory is on disk, too.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file; empty if the file does not exist."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not valid JSON ({error}); delete it and build again") from error
    except OSError as error:
        raise EnvironmentProblem(in_words(error, path)) from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} holds {value!r:.40} instead of a JSON object; delete it and build again")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace the file in one step, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the only lock on the folder until the block or the process ends.

    Args:
        waiting: called once if another process holds the lock.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")  # noqa: SIM115  (closed below)
    except OSError as error:
        raise ArtifactError(f"cannot write to {folder} ({error}); choose another folder") from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
