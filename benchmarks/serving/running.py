"""A server for a measurement, and what its processes use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tritone.serve import parse, start
from tritone.supervisor.launch import SHARED_MEMORY
from tritone.supervisor.locate import free_ports
from tritone.supervisor.processes import children, model_processes, stat
from tritone.supervisor.service import Service

SENTENCE = "The birch canoe slid on the smooth planks."


@contextmanager
def running(checkpoint: Path, *options: str) -> Iterator[Service]:
    """Yield a server of the checkpoint on free ports."""
    ports = [f"--{name}-port={port}" for name, port in vars(free_ports()).items()]
    _, service = start(parse([str(checkpoint), *ports, *options]))
    with service:
        yield service


def processes(service: Service) -> dict[str, int]:
    """Return the server's processes by what they run: Triton, each instance of a model, and the front door."""
    assert service.triton.process is not None
    triton = service.triton.process.pid
    found = {"front door": os.getpid(), "tritonserver": triton}
    for process in sorted(model_processes(triton), key=lambda process: process.pid):
        name, number = process.model, 1
        while name in found:
            number += 1
            name = f"{process.model} ({number})"
        found[name] = process.pid
    return found


def cpu_seconds(service: Service) -> float:
    """Return the CPU time that Triton and its models have used."""
    assert service.triton.process is not None
    pids = [service.triton.process.pid, *children(service.triton.process.pid)]
    return sum(now.ticks for pid in pids if (now := stat(pid)) is not None) / os.sysconf("SC_CLK_TCK")


def private_bytes(pid: int) -> int:
    """Return the memory that a process has for itself; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
    return sizes.get("Private_Dirty", 0) + sizes.get("Private_Clean", 0)


def shared_bytes(service: Service) -> int:
    """Return the shared memory of the server's models."""
    return sum(path.stat().st_blocks * 512 for path in SHARED_MEMORY.glob(f"{service.triton.region}*"))
