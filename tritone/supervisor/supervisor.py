"""Keeps a Triton server answering: loads a model again whose process died or stopped, or starts Triton again.

Triton 2.51 does neither, and says that it is ready. A model is loaded again within a fraction of a second and its own
start; streams of other models go on meanwhile.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from tritone.errors import TritoneError
from tritone.supervisor.launch import SHARED_MEMORY, Server
from tritone.supervisor.processes import ModelProcess, resident_bytes
from tritone.supervisor.watch import STILL_SECONDS, Problem, Watch

POLL = 0.2
"""Seconds between two looks at the processes."""
PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds before a model that keeps dying is loaded again: doubled each time, up to the longest."""
FORGIVEN = 60.0
"""Seconds without a problem after which earlier ones are forgotten."""
STARTS = 3
"""Times a server that does not start is tried."""
LOAD_SECONDS = 120.0
RETIRED_SECONDS = 30.0
"""Longest time that another instance's process may answer what it has begun, after its model was loaded again."""
MEASURE = 5.0
"""Seconds between two measurements of memory."""
DRAIN_SECONDS = 60.0
"""Longest wait for running requests before a server that has grown too large is started again."""


class Front(Protocol):
    """The part of the front door that the supervisor speaks to; called from the supervisor's thread."""

    def unready(self, reason: str, model: str) -> None:
        """Hold requests that need the model ("" for all), and give up those that its process was answering."""

    def ready(self) -> None:
        """Let requests pass again."""

    def idle(self, model: str) -> bool:
        """Return True if no request inside needs the model."""

    def restarted(self, model: str, kind: str) -> None:
        """Count a model that was loaded again, or a server ("" as the model)."""

    def memory(self, bytes_of: dict[str, int]) -> None:
        """Take note of the resident memory of each process."""

    def stalled(self, seconds: float) -> bool:
        """Return True if a request has waited so long without an answer."""

    def drain(self) -> bool:
        """Admit nothing more, and return True once no request is inside."""


class Supervisor:
    """A thread that starts a server, watches it and mends it until it is stopped.

    Args:
        most_memory: resident bytes of Triton itself above which it is started again once no request is inside.
        still: seconds without any work after which waiting requests count as stuck; None if models wait for others.
        stopped: called when the server cannot be mended, with the reason.
    """

    def __init__(
        self,
        server: Server,
        front: Front,
        stopped: Callable[[str], None],
        most_memory: int = 1 << 30,
        still: float | None = STILL_SECONDS,
    ) -> None:
        self._server, self._front, self._stopped = server, front, stopped
        self._most_memory, self._still = most_memory, still
        self._end = threading.Event()
        self._times: dict[str, list[float]] = {}
        self._watch: Watch | None = None
        self._measured = self._full_since = 0.0

    def started(self) -> None:
        """Take the processes of the server, which has just become ready, for those that are expected."""
        assert self._server.process is not None
        self._watch = Watch(self._server.process.pid)
        self._report_memory()
        self._front.ready()

    def run(self) -> None:
        """Watch until `stop` is called; this is the thread in which Triton was started and must outlive it."""
        while not self._end.wait(POLL):
            try:
                self.look()
            except TritoneError as error:
                self._stopped(str(error))
                return

    def stop(self) -> None:
        """End the watch, so that an intended end is not taken for a death."""
        self._end.set()

    def look(self) -> None:
        """Look once, and mend what is broken."""
        self.end_retired()
        server, watch = self._server, self._watch
        assert server.process is not None and watch is not None
        if server.process.poll() is not None:
            self.restart(Problem("", f"the Triton server {server.ended()}", "died"))
            return
        problems = watch.problems()
        whole = [problem for problem in problems if not problem.model]
        if whole:
            self.restart(whole[0])
        elif problems:
            self.mend(problems)
        elif self._still and watch.still() > self._still and self._front.stalled(self._still):
            self.restart(Problem("", f"no model did any work for {self._still:g} s, with requests waiting", "stuck"))
        elif self._full_since and (self._front.drain() or time.monotonic() - self._full_since > DRAIN_SECONDS):
            self._full_since = 0.0
            self.restart(Problem("", f"the Triton server has grown beyond {self._most_memory >> 20} MB", "memory"))
        elif time.monotonic() - self._measured > MEASURE:
            self._report_memory()

    def mend(self, problems: list[Problem]) -> None:
        """Load the models again whose processes have died or stopped; start Triton again if that fails."""
        assert self._watch is not None
        for model in dict.fromkeys(problem.model for problem in problems):
            broken = [problem for problem in problems if problem.model == model]
            self._front.unready(broken[0].reason, model)
            self._say(f"{broken[0].reason}; {model} is loaded again")
            for problem in broken:
                if problem.process is not None:
                    kill(problem.process)
            self._watch.forget(model)
            self._pause(model)
            try:
                self._server.reload(model, LOAD_SECONDS)
            except TritoneError as error:
                self.restart(Problem("", f"{broken[0].reason}, and {error}", broken[0].kind))
                return
            self._front.restarted(model, broken[0].kind)
        self._watch.refresh()
        self._front.ready()
        self._say("every model answers again")

    def end_retired(self) -> None:
        """End what is left of models that were loaded again: another instance, once it has answered what it began.

        Triton waits for ever for the requests of the instance that died, and keeps the others alive meanwhile.
        """
        if self._watch is None:
            return
        for process, seconds in self._watch.retired():
            if seconds > RETIRED_SECONDS or self._front.idle(process.model):
                kill(process)

    def restart(self, problem: Problem) -> None:
        """Start Triton again; raise TritoneError if it does not start any more."""
        self._front.unready(problem.reason, "")
        self._say(f"{problem.reason}; it is started again")
        self._server.kill()
        for attempt in range(1, STARTS + 1):
            self._pause("")
            if self._end.is_set():
                return
            try:
                self._server.start()
                break
            except TritoneError as error:
                if attempt == STARTS:
                    raise TritoneError(f"{problem.reason}, and it does not start any more: {error}") from error
                self._say(f"{error}; once more")
        self._front.restarted("", problem.kind)
        self.started()
        self._say("every model answers again")

    def _pause(self, model: str) -> None:
        """Wait a little longer each time the same thing breaks."""
        now = time.monotonic()
        times = [then for then in self._times.get(model, []) if now - then < FORGIVEN]
        self._times[model] = [*times, now]
        if len(times) > 1:
            self._end.wait(min(LONGEST_PAUSE, PAUSE * 2 ** (len(times) - 1)))

    def _report_memory(self) -> None:
        assert self._server.process is not None and self._watch is not None
        self._measured = time.monotonic()
        server = resident_bytes(self._server.process.pid)
        sizes: dict[str, int] = {"tritonserver": server}
        for process in self._watch.known:
            sizes[process.model] = sizes.get(process.model, 0) + resident_bytes(process.pid)
        self._front.memory(sizes)
        if server > self._most_memory:
            self._full_since = self._full_since or time.monotonic()

    @staticmethod
    def _say(message: str) -> None:
        print(f"supervisor: {message}", file=sys.stderr, flush=True)


def kill(process: ModelProcess) -> None:
    """End a process and remove its shared memory; Triton keeps its own mapping for as long as it needs it."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    (SHARED_MEMORY / process.region).unlink(missing_ok=True)
