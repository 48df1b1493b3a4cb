"""The watch reports dead and stopped processes, on processes and a clock that the test plays."""

from __future__ import annotations

from tritone.supervisor.processes import ModelProcess, Stat
from tritone.supervisor.watch import IDLE_TICKS, STOPPED_SECONDS, Watch

SERVER = 1
LLM, FLOW = ModelProcess(10, "voice_llm", "r10"), ModelProcess(11, "voice_flow", "r11")


class Machine:
    """Processes that a test changes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stats: dict[int, Stat | None] = {pid: Stat("S", 100, 0) for pid in (SERVER, 10, 11)}

    def watch(self) -> Watch:
        """Return a watch over this machine."""
        return Watch(SERVER, self.stats.get, lambda _server: [LLM, FLOW], lambda: self.now)


def test_healthy_processes_are_no_problem() -> None:
    assert Machine().watch().problems() == []


def test_a_dead_process_is_reported_with_how_it_ended() -> None:
    machine = Machine()
    watch = machine.watch()
    machine.stats[10] = Stat("Z", 100, 9)
    machine.stats[11] = None
    llm, flow = watch.problems()
    assert (llm.model, llm.kind, llm.process) == ("voice_llm", "died", LLM)
    assert llm.reason == "the process of voice_llm was killed (signal 9), often for lack of memory"
    assert (flow.model, flow.reason) == ("voice_flow", "the process of voice_flow ended")


def test_a_stopped_process_is_reported_after_a_second_and_one_that_goes_on_is_not() -> None:
    machine = Machine()
    watch = machine.watch()
    machine.stats[10] = Stat("T", 100, 0)
    assert watch.problems() == []
    machine.now += STOPPED_SECONDS
    assert [problem.kind for problem in watch.problems()] == ["stopped"]
    machine.stats[10] = Stat("S", 100, 0)
    assert watch.problems() == []
    machine.stats[10] = Stat("T", 100, 0)
    assert watch.problems() == []


def test_a_stopped_server_has_no_model() -> None:
    machine = Machine()
    watch = machine.watch()
    machine.stats[SERVER] = Stat("T", 100, 0)
    watch.problems()
    machine.now += STOPPED_SECONDS
    [problem] = watch.problems()
    assert (problem.model, problem.reason) == ("", "the Triton server was stopped (SIGSTOP)")


def test_a_model_that_is_loaded_again_is_not_expected_meanwhile() -> None:
    machine = Machine()
    watch = machine.watch()
    machine.stats[10] = None
    watch.forget("voice_llm")
    assert watch.problems() == [] and watch.known == [FLOW]
    watch.refresh()
    assert watch.known == [FLOW], "its other instance may answer what it has begun, and ends then"


def test_processes_that_do_nothing_are_still_and_signs_of_life_are_no_work() -> None:
    machine = Machine()
    watch = machine.watch()
    watch.still()
    machine.now += 5
    machine.stats[10] = Stat("S", 100 + IDLE_TICKS, 0)
    assert watch.still() == 5
    machine.stats[11] = Stat("R", 101, 0)
    assert watch.still() == 0
