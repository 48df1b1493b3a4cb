"""Names the files below a folder that anything opens, libraries in C++ and Rust included: Linux tells of each."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OPENED, OF_A_FOLDER = 0x20, 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def opened_files(folder: Path) -> Iterator[set[str]]:
    """Yield a set that has, after the block, the paths below the folder of all files that were opened in it."""
    descriptor = LIBC.inotify_init1(os.O_NONBLOCK)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    names: set[str] = set()
    try:
        homes: dict[int, Path] = {}
        for home in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
            homes[LIBC.inotify_add_watch(descriptor, os.fsencode(home), OPENED)] = home.relative_to(folder)
        yield names
        while True:
            try:
                events = os.read(descriptor, 1 << 16)
            except BlockingIOError:
                break
            while events:
                watch, mask, _, size = struct.unpack_from("iIII", events)
                name, events = events[16 : 16 + size].rstrip(b"\0").decode(), events[16 + size :]
                if name and not mask & OF_A_FOLDER:
                    names.add((homes[watch] / name).as_posix())
    finally:
        os.close(descriptor)
