"""Starts a Triton server on a model repository, waits until it is ready, and stops it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import site
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from tritone.errors import TritoneError
from tritone.server.locate import Ports, assemble, check_ports, libpython, wheel

ROOT = Path(__file__).resolve().parents[2]
"""The folder that contains the package `tritone`: a checkout, or site-packages."""
Progress = Callable[[str, int, int], None]
LOADED = re.compile(r"successfully loaded '([^']+)'")
FAILED = re.compile(r"failed to load '([^']+)' version \d+: (.*)")
ABORTED = "boost::interprocess::lock_exception"
"""The exception of that race in the Python backend of Triton 2.51, seen in one of some twenty starts."""
DIE_WITH_PARENT = 1  # prctl(PR_SET_PDEATHSIG, ...)


class ServerFailed(TritoneError):
    """The server stopped or a model did not load; the message contains the first error of the log."""


class ServerAborted(ServerFailed):
    """Triton aborted in a race of its own between model processes that start at the same time."""


class Server:
    """One Triton server process; use it as a context manager, or call `start` and `stop`.

    Args:
        repository: folder of models, each with a config.pbtxt.
        build: folder for the assembled backend and the log.
        env: variables that the models' configs refer to (TRITONE_MODEL_DIR, ...), added to the process environment.
        home: folder of a server installation (bin, backends); None for the one in the nvidia-pytriton wheel.
        options: further command-line options of the server, without dashes.
    """

    def __init__(
        self,
        repository: Path,
        build: Path,
        ports: Ports,
        env: Mapping[str, str],
        host: str = "127.0.0.1",
        home: Path | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.repository, self.build, self.ports, self.host = repository.resolve(), build.resolve(), ports, host
        self.env, self.home, self.options = dict(env), home, dict(options or {})
        self._region = f"tritone-{ports.http}-"
        self.log = self.build / f"tritonserver-{ports.http}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """Return the server's environment: this one plus this interpreter's packages and the wheel's libraries."""
        env = {key: value for key, value in os.environ.items() if key not in {"PYTHONHOME", "PYTHONSTARTUP"}}
        packages = [str(ROOT), *site.getsitepackages()]
        env["PYTHONPATH"] = os.pathsep.join(packages)
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}"
        if self.home is None:
            libraries = [libpython().parent, wheel().parents[1] / "nvidia_pytriton.libs"]
            paths = [*map(str, libraries), env.get("LD_LIBRARY_PATH", "")]
            env["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, paths))
        return env | self.env

    def command(self) -> list[str]:
        """Return the command line, with every relevant setting written out."""
        pairs = {
            "model-repository": self.repository,
            "backend-directory": self.home / "backends" if self.home else assemble(self.build / "tritonserver"),
            "http-address": self.host, "grpc-address": self.host, "metrics-address": self.host,
            "http-port": self.ports.http, "grpc-port": self.ports.grpc, "metrics-port": self.ports.metrics,
            "backend-config": f"python,shm-region-prefix-name={self._region}",
            "allow-gpu-metrics": "false", "exit-timeout-secs": 5, **self.options,
        }  # fmt: skip
        return [
            str((self.home or wheel()) / "bin" / "tritonserver"),
            "--disable-auto-complete-config",
            *(f"--{key}={value}" for key, value in pairs.items()),
        ]

    def start(self, timeout: float = 120, progress: Progress | None = None) -> Server:
        """Start the server and return it once every model is ready; raise EnvironmentProblem or ServerFailed.

        A server that Triton's own race aborts while it starts is started once more.
        """
        check_ports(self.ports, self.host)
        try:
            self._launch(timeout, progress)
        except ServerAborted as error:
            print(f"{error}; starting it again", file=sys.stderr, flush=True)
            self._launch(timeout, progress)
        return self

    def _launch(self, timeout: float, progress: Progress | None) -> None:
        command, env = self.command(), self.environment()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        libc = ctypes.CDLL(None)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, env=env, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                start_new_session=True, preexec_fn=lambda: libc.prctl(DIE_WITH_PARENT, signal.SIGTERM),
            )  # fmt: skip
        try:
            self._wait(time.monotonic() + timeout, timeout, progress)
        except BaseException:
            self.stop()
            raise

    def _wait(self, deadline: float, timeout: float, progress: Progress | None) -> None:
        assert self.process is not None
        total = sum(1 for _ in self.repository.glob("*/config.pbtxt"))
        seen = 0
        while True:
            up = ready(self.ports.http, self.host)
            names = LOADED.findall(self.log.read_text(errors="replace"))
            for index in range(seen, len(names)):
                if progress is not None:
                    progress(names[index], index + 1, total)
            seen = len(names)
            if up:
                return
            if self.process.poll() is not None:
                if self.process.returncode < 0 and ABORTED in self.log.read_text(errors="replace"):
                    raise ServerAborted(f"the Triton server aborted while its models started ({ABORTED})")
                raise ServerFailed(
                    f"the Triton server stopped with code {self.process.returncode}: {self.first_error()}"
                )
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"the Triton server was not ready after {timeout:g} s ({seen} of {total} models loaded); "
                    f"see {self.log}"
                )
            time.sleep(0.05)

    def first_error(self) -> str:
        """Return the message in the log that explains the failure, and the log's path."""
        return f"{explain(self.log.read_text(errors='replace'))} (full log: {self.log})"

    def stop(self, grace: float = 20) -> None:
        """Send SIGTERM, wait up to `grace` seconds, then send SIGKILL to the rest of the process group.

        A server that crashed can leave model processes and shared memory behind, so both are always removed.
        """
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for region in self.shared_memory():
            region.unlink(missing_ok=True)

    def shared_memory(self) -> list[Path]:
        """Return the shared memory regions that this server's models use."""
        return sorted(Path("/dev/shm").glob(f"{self._region}*"))

    def __enter__(self) -> Server:
        return self.start() if self.process is None else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def ready(http_port: int, host: str = "127.0.0.1", model: str = "") -> bool:
    """Return True if the server, or the named model, is ready for requests."""
    path = f"models/{model}/ready" if model else "health/ready"
    try:
        with urllib.request.urlopen(f"http://{host}:{http_port}/v2/{path}", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def explain(log: str) -> str:
    """Return the first relevant error of a Triton log: the reason a model did not load, or the first error line."""
    failure = FAILED.search(log)
    if failure:
        reason = re.split(r"(?:\\n|\n)+At:", failure.group(2))[0].removeprefix("Internal: ")
        return f"model {failure.group(1)} did not load: {reason.strip()}"
    for line in log.splitlines():
        if (re.match(r"E\d{4} ", line) and "CudaDriverHelper" not in line) or "error while loading" in line:
            return line.split("]", 1)[-1].strip(' "')
    return next(filter(None, map(str.strip, log.splitlines())), "its log is empty")
