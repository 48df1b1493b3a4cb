"""A server of its own for tests that break it, and what must hold after each fault."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tritone.client.errors import SpeechError
from tritone.client.speech_client import SpeechClient
from tritone.serve import parse, start
from tritone.supervisor.launch import SHARED_MEMORY
from tritone.supervisor.locate import free_ports
from tritone.supervisor.processes import children, model_processes, resident_bytes
from tritone.supervisor.service import Service

SENTENCE = "The birch canoe slid on the smooth planks."
LONG = " ".join([SENTENCE] * 6)
PATIENCE = 120.0
"""Seconds after which a test gives up; on a quiet machine faults are mended within five (benchmarks/serving)."""


@contextmanager
def own_server(checkpoint: Path, *options: str) -> Iterator[Service]:
    """Yield a running server of this checkpoint on free ports."""
    ports = [f"--{name}-port={port}" for name, port in vars(free_ports()).items()]
    _, service = start(parse([str(checkpoint), "--streams=8", *ports, *options]))
    with service:
        yield service


def client_of(service: Service, timeout: float = PATIENCE) -> SpeechClient:
    """Return a client of the server."""
    return SpeechClient(f"127.0.0.1:{service.ports.grpc}", model=service.family.name, timeout=timeout)


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Return once the condition holds; fail with `what` after a generous time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.02)


def good_request(service: Service) -> float:
    """Return the seconds until a whole utterance and a stream have been spoken, however often they had to be asked."""
    began = time.monotonic()
    while True:
        try:
            with client_of(service) as client:
                assert client.synthesize("Hello there.").seconds > 0.2
                assert sum(chunk.size for chunk in client.stream("Hello there.")) > 4000
            return time.monotonic() - began
        except SpeechError as error:
            assert time.monotonic() - began < PATIENCE, f"no good request after {PATIENCE:g} s: {error}"
            time.sleep(0.05)


@dataclass
class Talk:
    """A request in a thread of its own: what it got, and how it ended."""

    whole: bool
    service: Service
    text: str = LONG
    samples: int = 0
    error: SpeechError | None = None
    began: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def start(self) -> Talk:
        """Begin to talk."""
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def _run(self) -> None:
        """Talk; what it gets and how it ends is kept."""
        try:
            with client_of(self.service) as client:
                if self.whole:
                    self.samples = len(client.synthesize(self.text).waveform)
                    return
                for chunk in client.stream(self.text):
                    self.samples += chunk.size
                    self.began.set()
        except SpeechError as error:
            self.error = error

    def end(self) -> None:
        """Wait for the end; fail if the client hears nothing more for ever."""
        assert self.thread is not None
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), "a client waits for ever"
        assert self.samples or self.error


def inside(service: Service) -> int:
    """Return the number of requests that the front door has inside Triton."""
    assert service.door._desk is not None
    return len(list(service.door._desk.tickets))


@dataclass(frozen=True)
class Belongings:
    """The processes and memory of a server at one moment."""

    models: tuple[str, ...]
    regions: int
    shared_bytes: int
    resident: int

    @classmethod
    def of(cls, service: Service) -> Belongings:
        """Return the processes and memory of the server now."""
        process = service.triton.process
        assert process is not None
        running = model_processes(process.pid)
        regions = [path.stat() for path in SHARED_MEMORY.glob(f"{service.triton.region}*")]
        return cls(
            tuple(sorted(one.model for one in running)),
            len(regions),
            sum(region.st_blocks * 512 for region in regions),
            sum(map(resident_bytes, [process.pid, *children(process.pid)])),
        )

    def check(self, service: Service, more_resident: int = 200 << 20) -> None:
        """Fail unless the server has the same again: processes, shared memory, and no more memory than allowed."""
        until(lambda: Belongings.of(service).models == self.models, f"{self.models} running again")
        until(lambda: inside(service) == 0, "the end of every request inside")
        now = Belongings.of(service)
        assert now.regions == self.regions
        assert now.shared_bytes <= self.shared_bytes + (4 << 20)
        assert now.resident <= self.resident + more_resident
        assert list(service.triton.flags.iterdir()) == []
