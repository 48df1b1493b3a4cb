"""The memory of a server and its model processes together."""

from __future__ import annotations

import threading
from pathlib import Path

from tritone.errors import ConfigError


def tree(pid: int) -> list[int]:
    """Return the ids of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for process in found:
        found += children.get(process, [])
    return found


def resident(pid: int) -> int:
    """Return the bytes of memory of the process tree, counting shared pages once (PSS)."""
    total = 0
    for process in tree(pid):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


class PeakMemory:
    """Samples a process tree twice a second while the block runs; without a pid it measures nothing."""

    def __init__(self, pid: int | None) -> None:
        if pid is not None and not Path(f"/proc/{pid}").is_dir():
            raise ConfigError(f"--pid {pid}: there is no such process")
        self._pid = pid
        self._peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        if self._pid is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def result(self) -> dict[str, float]:
        """Return the peak as `server_memory_gib`; an empty dict without a pid."""
        return {"server_memory_gib": round(self._peak / 2**30, 3)} if self._pid is not None else {}

    def _watch(self) -> None:
        while self._pid is not None:
            self._peak = max(self._peak, resident(self._pid))
            if self._done.wait(0.5):
                return
