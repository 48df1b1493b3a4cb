"""Processes as the kernel shows them: real ones, which are stopped and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tritone.supervisor.processes import (
    DEAD_STATES,
    STOPPED_STATES,
    ModelProcess,
    children,
    ending,
    model_process,
    resident_bytes,
    stat,
)

SLEEP = "import time; time.sleep(100)"


def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fail after a generous time."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def state(pid: int) -> str:
    """Return the kernel's letter for a process."""
    now = stat(pid)
    assert now is not None
    return now.state


def test_a_process_that_is_stopped_and_killed_is_seen_and_says_how_it_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEP]) as process:
        assert process.pid in children(os.getpid()) and resident_bytes(process.pid) > 0
        os.kill(process.pid, signal.SIGSTOP)
        until(lambda: state(process.pid) in STOPPED_STATES)
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: state(process.pid) in DEAD_STATES)
        now = stat(process.pid)
        assert now is not None and ending(now.exit_status) == "was killed (signal 9), often for lack of memory"
    assert stat(process.pid) is None and resident_bytes(process.pid) == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.abort()", "crashed (SIGABRT, Aborted)"),
        ("import os; os.kill(os.getpid(), 11)", "crashed (SIGSEGV, Segmentation fault)"),
        ("import os; os.kill(os.getpid(), 15)", "was ended by signal 15 (Terminated)"),
        ("raise SystemExit(3)", "ended with code 3"),
    ],
)
def test_every_end_has_its_words(code: str, words: str) -> None:
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        until(lambda: state(process.pid) in DEAD_STATES)
        now = stat(process.pid)
        assert now is not None and ending(now.exit_status) == words


def test_a_models_process_is_recognised_by_its_command_line(tmp_path: Path) -> None:
    stub = tmp_path / "triton_python_backend_stub"
    stub.symlink_to("/bin/sleep")
    # The words of Triton 2.51; sleep refuses them, so a shell holds them and waits.
    words = [
        str(stub),
        "/models/voice_llm/1/model.py",
        "tritone-x-1",
        "1",
        "1",
        "7",
        "/backends",
        "336",
        "voice_llm_0_1",
    ]
    held = ["bash", "-c", 'exec -a "$0" sleep 100', *words]
    with subprocess.Popen([*held[:3], words[0]]) as plain:
        assert model_process(plain.pid) is None
        plain.kill()
    script = tmp_path / "hold.py"
    script.write_text("import time; time.sleep(100)")
    with subprocess.Popen([str(stub), str(script), *words[2:]], executable=sys.executable) as process:
        until(lambda: model_process(process.pid) is not None)
        assert model_process(process.pid) == ModelProcess(process.pid, "voice_llm", "tritone-x-1")
        process.kill()


def test_other_processes_are_none() -> None:
    assert model_process(os.getpid()) is None and model_process(1 << 30) is None
