"""Arrays in files together with a description of their origin, so that an outdated file is never used.

A file is an uncompressed `.npz` with the array and a JSON text, written completely or not at all; the checksums of the
zip format detect damage.
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
"""Error numbers of a full disk or an exhausted quota."""


def write_array(path: Path, array: np.ndarray, about: Mapping[str, object]) -> None:
    """Write `array` with its origin `about`, atomically; raise EnvironmentProblem if the disk is full."""
    buffer = io.BytesIO()  # zip files raise errors of their own when a disk is full
    text = np.array(json.dumps(dict(about), sort_keys=True))
    np.savez(buffer, array=np.ascontiguousarray(array), about=text)
    with room(path):
        write_atomic(path, lambda file: file.write(buffer.getbuffer()))


def read_array(path: Path, about: Mapping[str, object]) -> np.ndarray | None:
    """Return the array in `path`; None if the file is missing or was made from something other than `about`.

    Keys missing in `about` may have any value.

    Raises:
        ArtifactError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            origin = json.loads(str(file["about"]))
            if any(origin.get(name) != value for name, value in json.loads(json.dumps(dict(about))).items()):
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
        raise ArtifactError(f"{path} is damaged ({error}); delete it and run the same command again.") from error


@contextmanager
def room(path: Path) -> Iterator[None]:
    """Turn the error of a full disk while writing `path` into an EnvironmentProblem."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise EnvironmentProblem(
            f"the disk is full: {path} could not be written. Finished files are kept; "
            "free some space and run the same command again."
        ) from error
