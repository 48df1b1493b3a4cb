"""The memory that this machine, or this container, still has."""

from __future__ import annotations

from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def available(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int:
    """Return the bytes that can still be used: of the machine, or of the container if that has a smaller limit."""
    free = _meminfo(meminfo, "MemAvailable")
    for limit, usage, cache in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        most, used = _number(cgroup / limit), _number(cgroup / usage)
        if most is not None and used is not None:
            free = min(free, most - used + _reclaimable(cgroup / cache))
    return max(0, free)


def total(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int:
    """Return the bytes of the machine, or of the container if that has a smaller limit."""
    limits = [_number(cgroup / name) for name in ("memory.max", "memory/memory.limit_in_bytes")]
    return min([_meminfo(meminfo, "MemTotal"), *(limit for limit in limits if limit is not None)])


def _meminfo(path: Path, key: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{path} has no {key}")


def _number(path: Path) -> int | None:
    """Return the number in a file; None if the file is missing, or has no limit ("max")."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _reclaimable(path: Path) -> int:
    """Return the bytes of file pages that the kernel can drop at once."""
    try:
        lines = dict(line.split() for line in path.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(lines.get("inactive_file", 0))


class Budget:
    """Decides whether one more request fits into memory.

    Args:
        reserve: bytes that are never given away.
        cost: bytes of one stream; `learn` raises it to what was seen.
    """

    def __init__(self, reserve: int = 256 << 20, cost: int = 64 << 20) -> None:
        self.reserve, self.cost = reserve, cost

    def problem(self) -> str:
        """Return the reason for which one more request does not fit, or ""."""
        free = available()
        if free >= self.reserve + self.cost:
            return ""
        return (
            f"this machine has {free >> 20} MB of memory left, and a request needs {self.cost >> 20} MB beside "
            f"{self.reserve >> 20} MB of reserve"
        )

    def learn(self, idle: int, now: int, streams: int) -> None:
        """Raise the cost of a stream to what it was seen to be.

        Args:
            idle: resident bytes of the stream's process before its first request.
            now: the same at this moment, with so many streams.
        """
        if streams > 1:
            self.cost = max(self.cost, (now - idle) // streams)
