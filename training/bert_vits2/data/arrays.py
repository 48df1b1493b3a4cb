"""Arrays in files that say what they were computed from: complete or absent, and never taken for another's.

A file is an uncompressed `.npz` of the array and a JSON text about it; zip checksums tell damage from data.
"""

from __future__ import annotations

import errno
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tritone.build.files import write_atomic
from tritone.errors import ArtifactError, EnvironmentProblem

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system answers when a disk or a quota has no room."""


def write_array(path: Path, array: np.ndarray, about: Mapping[str, object]) -> None:
    """Keeps `array` with what it was made from, atomically; EnvironmentProblem when the disk is full."""
    buffer = io.BytesIO()  # zip files complain for themselves when a disk is full
    text = np.array(json.dumps(dict(about), sort_keys=True))
    np.savez(buffer, array=np.ascontiguousarray(array), about=text)
    with room(path):
        write_atomic(path, lambda file: file.write(buffer.getbuffer()))


def read_array(path: Path, about: Mapping[str, object]) -> np.ndarray | None:
    """Return the array kept in `path`; None when there is none, or when it was made from anything else than `about`.

    Keys that `about` does not name may have any value.

    Raises:
        ArtifactError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = json.loads(str(file["about"]))
            if any(found.get(name) != value for name, value in json.loads(json.dumps(dict(about))).items()):
                return None
            array: np.ndarray = file["array"]
            return array
    except FileNotFoundError:
        return None
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ArtifactError(f"{path} is damaged ({error}); delete it and make it again.") from error


@contextmanager
def room(path: Path) -> Iterator[None]:
    """Turns a full disk, met while writing `path`, into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise EnvironmentProblem(
            f"the disk is full: {path} could not be written. What was finished is kept; "
            "free some space and run the same command again."
        ) from error
