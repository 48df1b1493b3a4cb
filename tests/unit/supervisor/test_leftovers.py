"""The leftovers of a killed server are removed, and nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tritone.supervisor.leftovers import remove_leftovers

SLEEP = "import time; time.sleep(100)"


def test_processes_and_memory_of_that_server_go_and_others_stay(tmp_path: Path) -> None:
    mine, other = tmp_path / "tritone-abc", tmp_path / "tritone-abcd"
    memory = tmp_path / "shm"
    memory.mkdir()
    for name in ("tritone-abc-1", "tritone-abcd-1"):
        (memory / name).touch()
    processes = [subprocess.Popen([sys.executable, "-c", SLEEP, f"{folder}/models"]) for folder in (mine, other)]
    try:
        remove_leftovers(mine, memory)
        assert processes[0].wait(30) == -signal.SIGKILL
        assert processes[1].poll() is None
        assert [path.name for path in memory.iterdir()] == ["tritone-abcd-1"]
    finally:
        for process in processes:
            process.kill()
            process.wait()
