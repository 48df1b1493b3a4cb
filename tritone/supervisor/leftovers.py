"""Leftovers of a killed server: processes that work in its folder, and shared memory named after it."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from tritone.supervisor.processes import PROC

SHARED_MEMORY = Path("/dev/shm")


def remove_leftovers(folder: Path, shared_memory: Path = SHARED_MEMORY) -> None:
    """End this user's processes that name a server's folder in their command line, and remove its shared memory."""
    for path in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.stat().st_uid == os.getuid() and f"{folder}/".encode() in (path / "cmdline").read_bytes():
                os.kill(int(path.name), signal.SIGKILL)
    for region in shared_memory.glob(f"{folder.name}-*"):
        region.unlink(missing_ok=True)
