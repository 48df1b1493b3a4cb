"""The supervisor mends problems, with a server and a front door that the test plays."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tritone.errors import TritoneError
from tritone.supervisor import supervisor as module
from tritone.supervisor.processes import ModelProcess
from tritone.supervisor.supervisor import STARTS, Supervisor
from tritone.supervisor.watch import Problem

DEAD = ModelProcess(1 << 30, "voice_llm", "region-of-a-test")


class Process:
    """A process that runs until a test ends it."""

    pid = os.getpid()
    returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status."""
        return self.returncode


class Triton:
    """Records what it is asked to do; fails as often as a test says."""

    def __init__(self) -> None:
        self.process: Process | None = Process()
        self.done: list[str] = []
        self.failing_starts = self.failing_loads = 0

    def reload(self, model: str, seconds: float) -> None:
        """Load a model again, or fail."""
        self.done.append(f"reload {model}")
        if self.failing_loads:
            self.failing_loads -= 1
            raise TritoneError("no memory")

    def kill(self) -> None:
        """End."""
        self.done.append("kill")
        self.process = None

    def start(self) -> None:
        """Start, or fail."""
        self.done.append("start")
        if self.failing_starts:
            self.failing_starts -= 1
            raise TritoneError("the port is gone")
        self.process = Process()

    def ended(self) -> str:
        """Return how the process ended."""
        return "was killed (signal 9)"


class Front:
    """Records each call."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.waiting, self.drained, self.quiet = False, True, False

    def unready(self, reason: str, model: str) -> None:
        self.told.append(f"unready {model or 'all'}: {reason}")

    def ready(self) -> None:
        self.told.append("ready")

    def idle(self, model: str) -> bool:
        return self.quiet

    def restarted(self, model: str, kind: str) -> None:
        self.told.append(f"restarted {model or 'all'} {kind}")

    def memory(self, bytes_of: dict[str, int]) -> None:
        pass

    def stalled(self, seconds: float) -> bool:
        return self.waiting

    def drain(self) -> bool:
        self.told.append("drain")
        return self.drained


class Watched:
    """A watch whose findings a test sets."""

    known: tuple[ModelProcess, ...] = ()

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.quiet = 0.0
        self.left: list[tuple[ModelProcess, float]] = []
        self.forgotten: list[str] = []

    def retired(self) -> list[tuple[ModelProcess, float]]:
        return self.left

    def problems(self) -> list[Problem]:
        return self.found

    def still(self) -> float:
        return self.quiet

    def forget(self, model: str) -> None:
        self.forgotten.append(model)

    def refresh(self) -> None:
        self.found = []


class Case:
    """A supervisor with everything around it."""

    def __init__(self, **options: Any) -> None:
        self.triton, self.front, self.watch = Triton(), Front(), Watched()
        self.ends: list[str] = []
        self.supervisor = Supervisor(self.triton, self.front, self.ends.append, **options)  # type: ignore[arg-type]
        self.supervisor.started()
        self.front.told.clear()


@pytest.fixture(autouse=True)
def played(monkeypatch: pytest.MonkeyPatch) -> list[Watched]:
    """Replace the watch by one that a test plays; it is the last of this list."""
    made: list[Watched] = []

    def new(_pid: int) -> Watched:
        made.append(Watched())
        return made[-1]

    monkeypatch.setattr(module, "Watch", new)
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(module, "resident_bytes", lambda _pid: 50 << 20)
    return made


def test_a_dead_model_is_loaded_again_and_the_door_knows(
    played: list[Watched], capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case()
    played[-1].found = [Problem("voice_llm", "the process of voice_llm was killed", "died", DEAD)]
    case.supervisor.look()
    assert case.triton.done == ["reload voice_llm"] and played[-1].forgotten == ["voice_llm"]
    assert case.front.told == [
        "unready voice_llm: the process of voice_llm was killed",
        "restarted voice_llm died",
        "ready",
    ]
    assert "the process of voice_llm was killed; voice_llm is loaded again" in capsys.readouterr().err
    case.supervisor.look()
    assert case.triton.done == ["reload voice_llm"]


def test_two_instances_of_a_model_are_one_reload(played: list[Watched]) -> None:
    case = Case()
    played[-1].found = [Problem("voice_llm", "a", "died", DEAD), Problem("voice_llm", "b", "died", DEAD)]
    case.supervisor.look()
    assert case.triton.done == ["reload voice_llm"]


def test_a_model_that_cannot_be_loaded_again_costs_a_start_of_the_server(played: list[Watched]) -> None:
    case = Case()
    case.triton.failing_loads = 1
    played[-1].found = [Problem("voice_llm", "the process of voice_llm was killed", "died", DEAD)]
    case.supervisor.look()
    assert case.triton.done == ["reload voice_llm", "kill", "start"]
    assert case.front.told[-2:] == ["restarted all died", "ready"]


@pytest.mark.parametrize("how", ["died", "stopped"])
def test_a_server_that_died_or_stopped_is_started_again(played: list[Watched], how: str) -> None:
    case = Case()
    if how == "died":
        assert case.triton.process is not None
        case.triton.process.returncode = -9
    else:
        played[-1].found = [Problem("", "the Triton server was stopped", "stopped")]
    case.supervisor.look()
    assert case.triton.done == ["kill", "start"]
    assert case.front.told[0].startswith("unready all: the Triton server was ")
    assert case.front.told[1:] == [f"restarted all {how}", "ready"]


def test_a_server_that_does_not_start_any_more_ends_the_supervisor_with_the_reason(played: list[Watched]) -> None:
    case = Case()
    case.triton.failing_starts = STARTS
    played[-1].found = [Problem("", "the Triton server was stopped", "stopped")]
    case.supervisor.run()
    assert case.ends == ["the Triton server was stopped, and it does not start any more: the port is gone"]
    assert case.triton.done == ["kill", *["start"] * STARTS]


def test_requests_that_wait_while_nothing_works_cost_a_start(played: list[Watched]) -> None:
    case = Case(still=3.0)
    played[-1].quiet = 4.0
    case.supervisor.look()
    assert case.triton.done == []
    case.front.waiting = True
    case.supervisor.look()
    assert case.triton.done == ["kill", "start"]
    assert "no model did any work for 3 s, with requests waiting" in case.front.told[0]


def test_models_that_wait_for_others_are_never_stuck(played: list[Watched]) -> None:
    case = Case(still=None)
    played[-1].quiet, case.front.waiting = 100.0, True
    case.supervisor.look()
    assert case.triton.done == []


def test_a_server_that_has_grown_is_started_again_once_it_is_idle(played: list[Watched]) -> None:
    case = Case(most_memory=1)
    case.front.drained = False
    case.supervisor.look()
    case.supervisor.look()
    assert case.triton.done == [] and case.front.told == ["drain", "drain"]
    case.front.drained = True
    case.supervisor.look()
    assert case.triton.done == ["kill", "start"]
    assert "the Triton server has grown beyond 0 MB" in case.front.told[3]


@pytest.mark.parametrize(("seconds", "quiet", "ends"), [(1.0, False, False), (1.0, True, True), (100.0, False, True)])
def test_what_is_left_of_a_reloaded_model_may_answer_and_then_ends(
    played: list[Watched], monkeypatch: pytest.MonkeyPatch, seconds: float, quiet: bool, ends: bool
) -> None:
    ended: list[ModelProcess] = []
    monkeypatch.setattr(module, "kill", ended.append)
    case = Case()
    played[-1].left, case.front.quiet = [(DEAD, seconds)], quiet
    case.supervisor.look()
    assert ended == ([DEAD] if ends else [])
