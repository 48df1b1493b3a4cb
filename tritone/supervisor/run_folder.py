"""A folder with a plain name for one running server: links to everything that Triton has to find by a path.

Triton's Python backend starts its processes by a shell that splits unquoted paths, and its Python encodes file names
in ASCII. The folder therefore has a name of letters, digits and dashes, and so has every path that Triton is given,
whatever the checkpoint, the build folder, the checkout or the environment is called.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tritone.errors import EnvironmentProblem
from tritone.supervisor.leftovers import remove_leftovers

PREFIX = "tritone-"
PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")
LONGEST = 60
"""Most characters of the folder's parent: the name of a socket in the folder has at most 107 in all."""
FRESH = 2
"""Seconds in which a folder without a lock may still belong to a server that starts."""


class RunFolder:
    """The folder of one server; only its owner can read it, and it disappears with the server or this process.

    A lock on it tells other servers, and programs that tidy up temporary folders, that it is in use.
    """

    def __init__(self, parents: Sequence[Path] | None = None) -> None:
        parent = plain_parent(parents)
        remove_abandoned(parent)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        self._targets: dict[Path, Path] = {}
        atexit.register(self.remove)

    def link(self, name: str, target: Path) -> Path:
        """Return the path `name` in the folder, now a link to the target."""
        link = self.path / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        self._targets[link] = target
        return link

    def told(self, text: str) -> str:
        """Return the text with every path of a link replaced by what it links to, as the user knows it."""
        for link, target in sorted(self._targets.items(), key=lambda pair: -len(str(pair[0]))):
            text = text.replace(str(link), str(target))
        return text

    def remove(self) -> None:
        """Delete the folder, never what its links point to."""
        atexit.unregister(self.remove)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        shutil.rmtree(self.path, ignore_errors=True)


def plain_parent(parents: Sequence[Path] | None = None) -> Path:
    """Return the first folder for temporary files that has a plain, short name and can be written.

    Args:
        parents: folders to try (default: that of TMPDIR, then /tmp, /var/tmp and the user's own in /run).
    """
    tried = parents or [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"), Path(f"/run/user/{os.getuid()}")]
    for parent in tried:
        plain = PLAIN.fullmatch(str(parent)) is not None and len(str(parent)) <= LONGEST
        if plain and parent.is_dir() and os.access(parent, os.W_OK | os.X_OK) and has_room(parent):
            return parent
    raise EnvironmentProblem(
        f"a server needs a folder for its links and sockets, but none of {', '.join(map(str, tried))} can be written, "
        f"has a free inode and a name of at most {LONGEST} plain characters (letters, digits, / . _ + -); "
        "set TMPDIR to one that does"
    )


def has_room(parent: Path) -> bool:
    """Return True if a folder can be made there; a full disk has no room for one."""
    try:
        os.rmdir(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError:
        return False
    return True


def remove_abandoned(parent: Path) -> None:
    """Delete the folders of this user's servers that were killed, and what is left of these servers.

    A server that was killed holds the lock of its folder no more, while a process of it may still run.
    """
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            if status.st_uid != os.getuid() or time.time() - status.st_mtime < FRESH:
                continue
            with exclusively(folder):
                remove_leftovers(folder)
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def exclusively(folder: Path) -> Iterator[None]:
    """Hold the folder's only lock; BlockingIOError if a server has it, NotADirectoryError if it is no folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def link_python(run: RunFolder) -> Path:
    """Return the folder of the `python3` that the backend's processes take for their own, by a plain path.

    The embedded Python looks for `pyvenv.cfg` and its packages from there. Where an environment, the Python below it
    or a `.pth` file has a name in other characters, an environment of links is made, without such `.pth` files.
    """
    prefix, base = Path(sys.prefix), Path(sys.base_prefix)
    packages = prefix / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    odd = [path for path in packages.glob("*.pth") if not path.read_bytes().isascii()]
    if PLAIN.fullmatch(str(base)) and not odd:
        return run.link("python", prefix) / Path(sys.executable).parent.name
    home = run.link("base", base)
    own = run.path / "python"
    (own / "bin").mkdir(parents=True, exist_ok=True)
    (own / "pyvenv.cfg").write_text(f"home = {home / 'bin'}\ninclude-system-site-packages = false\n")
    run.link("python/bin/python3", Path(sys.executable).resolve())
    for path in packages.iterdir():
        if path not in odd:
            run.link(f"python/{packages.relative_to(prefix)}/{path.name}", path)
    return own / "bin"


def open_log(wanted: Path) -> BinaryIO:
    """Return the log, open for writing: the wanted file, or one for temporary files where that cannot be written."""
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        return open(wanted, "wb")
    except OSError as refused:
        try:
            handle, name = tempfile.mkstemp(prefix=f"{wanted.stem}-", suffix=".log")
            os.close(handle)
            return open(name, "wb")
        except OSError as error:
            raise EnvironmentProblem(
                f"the server's log can be written neither to {wanted} ({refused.strerror}) nor to "
                f"{tempfile.gettempdir()} ({error.strerror}); make room in one of them, or set TMPDIR"
            ) from error
