"""Disks that are full, read-only or of another user: one sentence instead of a traceback, and nothing left behind.

Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tritone.errors import EnvironmentProblem

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
FULL = 1 << 16
"""A disk with fewer free bytes counts as full: libraries report it by errors of their own."""
LEFT = re.compile(r"\..+\.(part|\d+)|.+\.\d+\.part")
"""Names of folders and files that a build replaces others with, and leaves behind if it is killed."""
OLDER = re.compile(r"\..+\.[a-z0-9_]{8}")
"""Names of such folders in version 0.1."""


@contextlib.contextmanager
def disk_problems(folder: Path) -> Iterator[None]:
    """Raise EnvironmentProblem, with a sentence about the place, for errors of the disk inside the block.

    Args:
        folder: named where an error does not say which file it is about.
    """
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(in_words(error, folder)) from error


def in_words(error: OSError, folder: Path) -> str:
    """Return the sentence for an error of the disk."""
    place = re.sub(r"\.\d+\.part$", "", error.filename if isinstance(error.filename, str) else str(folder))
    if error.errno in NO_ROOM:
        return no_room(Path(place))
    if error.errno == errno.EROFS:
        return f"{place} is on a disk that is mounted read-only; mount it for writing, or choose another folder"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"this user has no permission to change {place}; give it with chmod or chown, run as its owner, or choose "
            "another folder"
        )
    if error.errno in (errno.EISDIR, errno.ENOTEMPTY):
        return f"{place} is a folder where a file belongs; move it away and run the same command again"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"{place} is a file where a folder belongs; move it away and run the same command again"
    return f"{place}: {error.strerror or error}"


def no_room(place: Path) -> str:
    """Return the sentence for a full disk."""
    return (
        f"there is no room left on the disk of {place}; make some and run the same command again: what was complete "
        "is kept"
    )


@contextlib.contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yield a folder beside the file or folder `name`, removed at the end.

    Raises:
        EnvironmentProblem: the block failed, and the disk is full.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{name}.", suffix=".part") as folder:
        try:
            yield Path(folder)
        except Exception as error:
            code = error.errno if isinstance(error, OSError) else None
            if code in NO_ROOM or shutil.disk_usage(parent).free < FULL:
                raise EnvironmentProblem(no_room(parent / name)) from error
            raise


def remove_leftovers(folder: Path) -> list[Path]:
    """Delete and return what killed builds left in a build folder; call it inside `locked(folder)`."""
    places = [folder, *(path for path in folder.glob("[!.]*") if path.is_dir())]
    found = [
        path
        for place in places
        for path in place.iterdir()
        if LEFT.fullmatch(path.name) or (path.is_dir() and OLDER.fullmatch(path.name))
    ]
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return found


def remove_parts(path: Path) -> None:
    """Delete what killed processes of this machine left beside a file that they were replacing."""
    for part in path.parent.glob(f"{glob.escape(path.name)}.*.part"):
        process = part.name[len(path.name) + 1 : -len(".part")]
        with contextlib.suppress(OSError):
            if process.isdecimal() and Path("/proc/self").is_dir() and not Path("/proc", process).exists():
                part.unlink()
