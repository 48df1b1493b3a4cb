"""The processes of a running Triton server as the kernel shows them: one for each instance of a Python model."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
STUB = "triton_python_backend_stub"
INSTANCE = re.compile(r"(.+)_\d+_\d+")
"""The name that Triton gives an instance: model, group and number."""
DEAD_STATES, STOPPED_STATES = "ZX", "Tt"


@dataclass(frozen=True)
class Stat:
    """One process at one moment.

    Args:
        state: the kernel's letter, such as "S" (sleeping), "T" (stopped) or "Z" (ended).
        ticks: CPU time used so far, in clock ticks.
        exit_status: of an ended process, as `wait` gives it; `ending` puts it in words.
    """

    state: str
    ticks: int
    exit_status: int


@dataclass(frozen=True)
class ModelProcess:
    """The process of one instance of a Python model; `region` is its shared memory, a file in /dev/shm."""

    pid: int
    model: str
    region: str


def stat(pid: int) -> Stat | None:
    """Return the process at this moment, or None if it does not exist."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return Stat(fields[0], int(fields[11]) + int(fields[12]), int(fields[49]))


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 if it does not exist."""
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def children(pid: int) -> list[int]:
    """Return the processes that any thread of a process has started."""
    found: list[int] = []
    for path in (PROC / str(pid) / "task").glob("*/children"):
        try:
            found += map(int, path.read_text().split())
        except OSError:
            continue
    return found


def model_processes(server: int) -> list[ModelProcess]:
    """Return the running model processes of a Triton server."""
    return [process for pid in children(server) if (process := model_process(pid)) is not None]


def model_process(pid: int) -> ModelProcess | None:
    """Return the model process of that number; None if it is something else, or has ended."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    if not words[0].endswith(STUB):
        return None
    names = [match.group(1) for word in words[3:] if (match := INSTANCE.fullmatch(word))]
    return ModelProcess(pid, names[0], words[2]) if names else None


def ending(status: int) -> str:
    """Return in words how a process ended, from the status that the kernel keeps."""
    number = status & 0x7F
    if number == signal.SIGKILL:
        return "was killed (signal 9), often for lack of memory"
    if number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
        return f"crashed ({signal.Signals(number).name}, {signal.strsignal(number)})"
    if number:
        return f"was ended by signal {number} ({signal.strsignal(number)})"
    return f"ended with code {status >> 8}"
