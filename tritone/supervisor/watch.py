"""Watches the processes of a Triton server, and says which have died, stopped or got stuck, and why."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tritone.supervisor.processes import DEAD_STATES, STOPPED_STATES, ModelProcess, Stat, ending, model_processes, stat

STOPPED_SECONDS = 0.5
"""Seconds after which a stopped process counts as stuck.

Triton gives up a model that is silent for one second, and may crash at an answer that comes later; the process must
have been ended by then.
"""
STILL_SECONDS = 6.0
"""Seconds without an answer and without any work after which requests count as stuck."""
IDLE_TICKS = 2
"""Clock ticks that idle processes may use meanwhile: each tells Triton three times a second that it lives."""


@dataclass(frozen=True)
class Problem:
    """A process that does not answer any more.

    Args:
        model: its model; "" for Triton itself.
        reason: a sentence about it.
        kind: a word for metrics: "died", "stopped" or "stuck".
        process: the model's process.
    """

    model: str
    reason: str
    kind: str
    process: ModelProcess | None = None


class Watch:
    """The processes of one run of a Triton server.

    Args:
        server: Triton's process.
        look: returns a process at this moment; tests replace it.
        find: returns the model processes of a server.
    """

    def __init__(
        self,
        server: int,
        look: Callable[[int], Stat | None] = stat,
        find: Callable[[int], list[ModelProcess]] = model_processes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server, self._look, self._find, self._clock = server, look, find, clock
        self._known: dict[int, ModelProcess] = {}
        self._retired: dict[int, tuple[ModelProcess, float]] = {}
        self._stopped: dict[int, float] = {}
        self._ticks, self._moved = 0, clock()
        self.refresh()

    @property
    def known(self) -> list[ModelProcess]:
        """The model processes that are expected to run."""
        return list(self._known.values())

    def refresh(self) -> None:
        """Take the processes that run now for those that are expected; called once all models are loaded."""
        running = [process for process in self._find(self._server) if process.pid not in self._retired]
        self._known = {process.pid: process for process in running}
        self._stopped.clear()

    def forget(self, model: str) -> None:
        """Expect no process of this model any more, because it is being loaded again.

        Another instance's process may still answer what it has begun, and then ends as it should.
        """
        now = self._clock()
        self._retired |= {pid: (process, now) for pid, process in self._known.items() if process.model == model}
        self._known = {pid: process for pid, process in self._known.items() if process.model != model}

    def retired(self) -> list[tuple[ModelProcess, float]]:
        """Return the processes of models that were loaded again which still run, and for how many seconds."""
        running = {}
        for pid, (process, since) in self._retired.items():
            now = self._look(pid)
            if now is not None and now.state not in DEAD_STATES:
                running[pid] = (process, since)
        self._retired = running
        return [(process, self._clock() - since) for process, since in running.values()]

    def problems(self) -> list[Problem]:
        """Return the processes that have died, or have been stopped for longer than Triton bears."""
        found = [self._problem(pid, process) for pid, process in self._known.items()]
        if self._is_stopped(self._server, self._look(self._server)):
            found.append(Problem("", "the Triton server was stopped (SIGSTOP)", "stopped"))
        return [problem for problem in found if problem is not None]

    def _problem(self, pid: int, process: ModelProcess) -> Problem | None:
        now = self._look(pid)
        if now is None or now.state in DEAD_STATES:
            how = ending(now.exit_status) if now is not None else "ended"
            return Problem(process.model, f"the process of {process.model} {how}", "died", process)
        if self._is_stopped(pid, now):
            return Problem(process.model, f"the process of {process.model} was stopped (SIGSTOP)", "stopped", process)
        return None

    def _is_stopped(self, pid: int, now: Stat | None) -> bool:
        if now is None or now.state not in STOPPED_STATES:
            self._stopped.pop(pid, None)
            return False
        return self._clock() - self._stopped.setdefault(pid, self._clock()) >= STOPPED_SECONDS

    def still(self) -> float:
        """Return the seconds for which the model processes have done no work."""
        ticks = sum(now.ticks for pid in self._known if (now := self._look(pid)) is not None)
        if abs(ticks - self._ticks) > IDLE_TICKS:
            self._ticks, self._moved = ticks, self._clock()
        return self._clock() - self._moved
