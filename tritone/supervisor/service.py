"""A complete server: Triton, a supervisor that keeps it answering, and the front door that clients reach."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType

from tritone.door.door import Door, Sockets
from tritone.door.entries import entries_of
from tritone.door.limits import Limits
from tritone.door.tls import Tls
from tritone.server.bls import stage_prefix
from tritone.server.flags import VARIABLE, Flags
from tritone.stage import Family
from tritone.supervisor.launch import Progress, Server
from tritone.supervisor.locate import Ports
from tritone.supervisor.speed import measure
from tritone.supervisor.supervisor import Supervisor
from tritone.supervisor.watch import STILL_SECONDS


class Service:
    """Serves one family on public ports; use it as a context manager, or call `start` and `stop`.

    Args:
        triton: the Triton server of the family's repository, not started.
        waits: whether models wait for another server, so that doing nothing is no sign of being stuck.
        most_memory: resident bytes of Triton itself above which it is started again.
        parameters: what the configs of the entries say to clients beside Triton's own parameters.
        aliases: further names under which clients may ask for the family's model.
    """

    def __init__(
        self,
        family: Family,
        triton: Server,
        ports: Ports,
        host: str = "127.0.0.1",
        limits: Limits | None = None,
        tls: Tls | None = None,
        waits: bool = False,
        most_memory: int = 1 << 30,
        parameters: Mapping[str, str] | None = None,
        aliases: Sequence[str] = (),
    ) -> None:
        self.family, self.triton, self.ports, self.host = family, triton, ports, host
        triton.env[VARIABLE] = str(triton.flags)
        self.door = Door(
            entries_of(family, parameters, aliases),
            needs(family),
            Sockets(triton.http, triton.grpc, triton.metrics),
            Flags(triton.flags),
            limits,
            tls=tls,
        )
        self.ended: Future[str] = Future()
        self.supervisor = Supervisor(
            triton, self.door, self._gave_up, most_memory, still=None if waits else STILL_SECONDS
        )
        self._thread: threading.Thread | None = None

    def start(self, timeout: float = 120, progress: Progress | None = None) -> Service:
        """Open the ports, start Triton and return once every model answers; raise TritoneError."""
        started: Future[None] = Future()

        def run() -> None:
            try:
                self.triton.start(timeout, progress)
                if self.door.limits.streams is None:
                    self.door.pace.speed = measure(self.triton.grpc, self.family.name)
                self.supervisor.started()
            except BaseException as error:
                started.set_exception(error)
                return
            started.set_result(None)
            self.supervisor.run()

        self.door.start(self.host, self.ports)
        # The kernel ends Triton with the thread that started it, which is therefore the one that watches it.
        self._thread = threading.Thread(target=run, name="supervisor", daemon=True)
        self._thread.start()
        try:
            started.result()
        except BaseException:
            self.stop(0)
            raise
        return self

    def stop(self, grace: float = 5) -> None:
        """Refuse new requests, let running ones end for `grace` seconds, and stop everything."""
        self.supervisor.stop()
        self.door.stop(grace)
        self.triton.stop()
        if not self.ended.done():
            self.ended.set_result("")

    def kill(self) -> None:
        """Stop everything at once, from a signal handler: nothing is waited for."""
        self.supervisor.stop()
        self.triton.kill()
        self.triton.run.remove()

    def _gave_up(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def needs(family: Family) -> Mapping[str, frozenset[str]]:
    """Return the entries that cannot answer without a model, by that model."""
    whole, stream = family.name, f"{family.name}_stream"
    models = {f"{family.name}_{host.name}": frozenset({whole}) for host in family.hosts}
    models |= {host.name: frozenset({host.name}) for host in family.services}
    everything = frozenset({whole, stream, *(host.name for host in family.services)})
    models |= {f"{stage_prefix(family.name)}{stage.name}": everything for stage in family.stages}
    return {**models, whole: frozenset({whole}), stream: frozenset({stream})}
