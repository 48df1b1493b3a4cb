"""`tritone serve` itself is stopped twice, killed, and started again at once on the same ports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.faults import LONG, until

from tritone.client.errors import SpeechError
from tritone.client.speech_client import SpeechClient
from tritone.supervisor.health import ready
from tritone.supervisor.launch import ROOT, SHARED_MEMORY
from tritone.supervisor.locate import Ports, free_ports
from tritone.supervisor.processes import DEAD_STATES, children, stat
from tritone.supervisor.service import Service


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, directly or not."""
    return [process for child in children(pid) for process in (child, *descendants(child))]


def runs(pid: int) -> bool:
    """Return True unless the process has ended."""
    now = stat(pid)
    return now is not None and now.state not in DEAD_STATES


class Launched:
    """A server started from the command line."""

    def __init__(self, checkpoint: Path, build: str, ports: Ports, log: Path) -> None:
        options = [f"--{name}-port={port}" for name, port in vars(ports).items()]
        command = [
            sys.executable,
            "-m",
            "tritone.serve",
            str(checkpoint),
            f"--build-dir={build}",
            "--streams=8",
            *options,
        ]
        self._log = log.open("a")
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=self._log)
        until(lambda: self.process.poll() is not None or ready(ports.http), "the start")
        assert self.process.poll() is None, log.read_text()
        self.processes = descendants(self.process.pid)
        self.folder = next(Path(f"/proc/{pid}/cwd").readlink() for pid in self.processes)

    def left(self) -> list[Path | int]:
        """Return the processes, folder and shared memory that are left of the server."""
        regions = SHARED_MEMORY.glob(f"{self.folder.name}-*")
        return [*filter(runs, self.processes), *([self.folder] if self.folder.exists() else []), *regions]

    def end(self) -> None:
        """End whatever still runs."""
        for pid in (self.process.pid, *self.processes):
            if runs(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(60)
        self._log.close()


@contextmanager
def speaking(ports: Ports) -> Iterator[None]:
    """Let a stream run that its client does not finish."""
    with SpeechClient(f"127.0.0.1:{ports.grpc}", timeout=60) as client:
        stream = client.stream(LONG)
        next(stream)
        yield
        with suppress(SpeechError):
            stream.close()


@pytest.fixture
def ports() -> Ports:
    """Ports of this test's own."""
    return free_ports()


def test_stopping_twice_ends_everything_at_once(
    checkpoint: Path, server: Service, ports: Ports, tmp_path: Path
) -> None:
    launched = Launched(checkpoint, server.triton.env["TRITONE_BUILD_DIR"], ports, tmp_path / "log")
    try:
        with speaking(ports):
            launched.process.send_signal(signal.SIGTERM)
            until(lambda: "stopping" in (tmp_path / "log").read_text(), "the first signal's effect")
            launched.process.send_signal(signal.SIGTERM)
            assert launched.process.wait(60) in (128 + signal.SIGTERM, 0)
            until(lambda: launched.left() == [], "the end of all that is left")
    finally:
        launched.end()


@pytest.mark.parametrize("everything", [False, True], ids=["launcher", "everything"])
def test_a_killed_server_is_not_in_the_way_of_the_next(
    checkpoint: Path, server: Service, ports: Ports, tmp_path: Path, everything: bool
) -> None:
    build = server.triton.env["TRITONE_BUILD_DIR"]
    killed = Launched(checkpoint, build, ports, tmp_path / "log")
    try:
        with speaking(ports):
            for pid in (killed.process.pid, *(killed.processes if everything else [])):
                os.kill(pid, signal.SIGKILL)
            killed.process.wait(60)
            following = Launched(checkpoint, build, ports, tmp_path / "log")
        try:
            with SpeechClient(f"127.0.0.1:{ports.grpc}") as client:
                assert client.synthesize("Hello there.").seconds > 0.2
            until(lambda: not any(map(runs, killed.processes)), "the end of the killed server's processes")
        finally:
            following.end()
    finally:
        killed.end()
