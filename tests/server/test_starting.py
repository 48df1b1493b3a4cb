"""Starting and stopping: progress, `--check`, a taken port, a missing library, a model that does not load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tritone.errors import EnvironmentProblem
from tritone.supervisor import launch
from tritone.supervisor.health import ready
from tritone.supervisor.launch import ROOT, Server, ServerFailed
from tritone.supervisor.locate import Ports, free_ports
from tritone.supervisor.processes import children
from tritone.supervisor.service import Service

BROKEN = """
class TritonPythonModel:
    def initialize(self, args):
        raise FileNotFoundError("engine.onnx is missing; run: build it")
"""
BUSY = """
import threading, time
class TritonPythonModel:
    def initialize(self, args):
        threading.Thread(target=time.sleep, args=(300,)).start()
"""
CONFIG = """
name: "single" backend: "python" max_batch_size: 1
input [{ name: "x" data_type: TYPE_FP32 dims: [1] }] output [{ name: "y" data_type: TYPE_FP32 dims: [1] }]
instance_group [{ count: 1 kind: KIND_CPU }]
"""


def one_model(folder: Path, code: str) -> Path:
    """Return a repository whose only model, "single", has this code."""
    (folder / "single" / "1").mkdir(parents=True)
    (folder / "single" / "1" / "model.py").write_text(code)
    (folder / "single" / "config.pbtxt").write_text(CONFIG)
    return folder


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tritone.serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)


def port_options(ports: Ports) -> list[str]:
    return [f"--{name}-port={port}" for name, port in vars(ports).items()]


def descendants(pid: int) -> list[int]:
    """Processes started by the process, directly or not."""
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def running(pid: int) -> bool:
    """Return True unless the process has ended (one that waits to be reaped has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def resident(pid: int) -> int:
    """Return bytes of memory the process holds."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def test_model_that_does_not_load_is_named_with_its_own_error(tmp_path: Path) -> None:
    server = Server(one_model(tmp_path / "models", BROKEN), tmp_path / "build", {})
    with pytest.raises(ServerFailed, match=r"model single did not load: FileNotFoundError: engine\.onnx is missing"):
        server.start(60)
    assert server.process is None


def test_crash_of_the_server_leaves_no_process_and_no_shared_memory_behind(tmp_path: Path) -> None:
    other = Server(one_model(tmp_path / "models", BUSY), tmp_path, {}).start(60)
    assert other.process is not None
    models = descendants(other.process.pid)
    assert models and other.shared_memory()
    os.kill(other.process.pid, signal.SIGKILL)
    other.process.wait(20)
    other.stop()
    assert other.shared_memory() == []
    deadline = time.monotonic() + 10
    while alive := [pid for pid in models if running(pid)]:
        assert time.monotonic() < deadline, f"still running: {alive}"
        time.sleep(0.1)


def test_taken_port_is_told_before_anything_starts(server: Service, tmp_path: Path) -> None:
    other = Service(server.family, Server(server.triton.repository, tmp_path, {}), server.ports)
    with pytest.raises(EnvironmentProblem, match=rf"cannot listen on 127\.0\.0\.1.*{server.ports.http}"):
        other.start()
    assert other.triton.process is None
    assert ready(server.ports.http)


def test_missing_libpython_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Service
) -> None:
    monkeypatch.setattr("tritone.supervisor.locate.library_folders", lambda: [tmp_path])
    other = Server(server.triton.repository, tmp_path / "build", {})
    with pytest.raises(EnvironmentProblem, match=r"libpython3\.\d+\.so\.1\.0, .*apt-get install"):
        other.start()
    assert other.process is None


def test_missing_checkpoint_is_a_sentence_and_status_1() -> None:
    result = serve("checkpoints/no_such_voice", "--check")
    assert result.returncode == 1
    assert result.stderr.startswith("error: checkpoints/no_such_voice is not a directory")


def test_check_speaks_through_both_entries_and_leaves_nothing_running(checkpoint: Path, server: Service) -> None:
    ports = free_ports()
    build = server.triton.env["TRITONE_BUILD_DIR"]
    result = serve(str(checkpoint), "--check", f"--build-dir={build}", *port_options(ports))
    assert result.returncode == 0, result.stderr
    assert "cosyvoice2: " in result.stdout and "cosyvoice2_stream: " in result.stdout
    assert "loaded" in result.stderr
    assert not ready(ports.http)


def test_terminating_the_command_stops_the_whole_server(checkpoint: Path, server: Service, tmp_path: Path) -> None:
    ports = free_ports()
    build = server.triton.env["TRITONE_BUILD_DIR"]
    command = [sys.executable, "-m", "tritone.serve", str(checkpoint), f"--build-dir={build}", *port_options(ports)]
    log = tmp_path / "stderr"
    with log.open("w") as stderr, subprocess.Popen(command, cwd=ROOT, stderr=stderr) as process:
        deadline = time.monotonic() + 90
        while not ready(ports.http):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        children = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, 130)
    assert len(children) > 2
    deadline = time.monotonic() + 10
    while alive := [pid for pid in children if running(pid)]:
        assert time.monotonic() < deadline, f"still running: {alive}"
        time.sleep(0.1)


def test_run_uses_the_server_that_is_there_and_returns_its_status(checkpoint: Path, server: Service) -> None:
    result = serve(str(checkpoint), *port_options(server.ports), "--run", sys.executable, "-c", "raise SystemExit(7)")
    assert result.returncode == 7
    assert "loaded" not in result.stderr and "ready after" not in result.stderr, "no other server was started"


def test_memory_of_server_and_models_stays_below_three_gigabytes(server: Service) -> None:
    assert server.triton.process is not None
    total = sum(map(resident, [server.triton.process.pid, *descendants(server.triton.process.pid)]))
    assert total < 3 * 2**30


def test_models_import_no_training_packages(server: Service) -> None:
    assert server.triton.process is not None
    models = descendants(server.triton.process.pid)
    assert len(models) >= 7
    for pid in models:
        assert "/torch/" not in Path(f"/proc/{pid}/maps").read_text()


def test_environment_reaches_the_models(tmp_path: Path) -> None:
    server = Server(tmp_path, tmp_path, {"TRITONE_MODEL_DIR": str(tmp_path), "TRITONE_THREADS": "2"})
    env = server.environment()
    try:
        assert env["TRITONE_THREADS"] == "2" and Path(env["TRITONE_MODEL_DIR"]).samefile(tmp_path)
        assert Path(env["PYTHONPATH"].split(os.pathsep)[0], "tritone").samefile(launch.ROOT / "tritone")
    finally:
        server.stop()
