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
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from tritone.errors import TritoneError
from tritone.server.health import ready
from tritone.server.locate import Ports, assemble, libpython, wheel
from tritone.server.preflight import check_ports
from tritone.server.reasons import ending
from tritone.server.run_folder import RunFolder, link_python, open_log

ROOT = Path(__file__).resolve().parents[2]
"""The folder that contains the package `tritone`: a checkout, or site-packages."""
Progress = Callable[[str, int, int], None]
LOADED = re.compile(r"successfully loaded '([^']+)'")
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
        build: folder for the log; if it cannot be written, the log lies in the folder for temporary files.
        env: variables that the models' configs refer to (TRITONE_MODEL_DIR, ...), added to the process environment;
            those that end in _DIR are folders, handed on as links with plain names.
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
        self._run: RunFolder | None = None

    @property
    def run(self) -> RunFolder:
        """Return the folder of links that the server runs in, made when it is first needed."""
        if self._run is None:
            self._run = RunFolder()
            self._run.link("tritone", ROOT / "tritone")
        return self._run

    def environment(self) -> dict[str, str]:
        """Return the server's environment: this one plus this interpreter's packages and the wheel's libraries."""
        env = {key: value for key, value in os.environ.items() if key not in {"PYTHONHOME", "PYTHONSTARTUP"}}
        packages = [self.run.link(f"packages{i}", Path(path)) for i, path in enumerate(site.getsitepackages())]
        env["PYTHONPATH"] = os.pathsep.join(map(str, [self.run.path, *packages]))
        env |= {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
        env["PATH"] = f"{link_python(self.run)}{os.pathsep}{env.get('PATH', '')}"
        if self.home is None:
            libraries = {"libpython": libpython().parent, "libraries": wheel().parents[1] / "nvidia_pytriton.libs"}
            paths = [*(str(self.run.link(*pair)) for pair in libraries.items()), env.get("LD_LIBRARY_PATH", "")]
            env["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, paths))
        folders = {
            key: self.run.link(key.lower(), Path(value)) for key, value in self.env.items() if key[-4:] == "_DIR"
        }
        return env | self.env | {key: str(link) for key, link in folders.items()}

    def command(self) -> list[str]:
        """Return the command line, with every relevant setting written out."""
        pairs = {
            "model-repository": self.run.link("models", self.repository),
            "backend-directory": self.home / "backends" if self.home else assemble(self.run.path),
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
        libc = ctypes.CDLL(None)
        with open_log(self.log) as log:
            self.log = Path(log.name)
            self.process = subprocess.Popen(
                command, env=env, cwd=self.run.path, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
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
                raise ServerFailed(self.ended(self.process.returncode))
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"the Triton server was not ready after {timeout:g} s ({seen} of {total} models loaded); "
                    f"see {self.log}"
                )
            time.sleep(0.05)

    def ended(self, status: int) -> str:
        """Return the sentence for a server that ended with this exit status, with the log's path."""
        reason = self.run.told(ending(status, self.log.read_text(errors="replace")))
        return f"the Triton server {reason} (full log: {self.log})"

    def stop(self, grace: float = 20) -> None:
        """Send SIGTERM, wait up to `grace` seconds, then send SIGKILL to the rest of the process group.

        A server that crashed can leave model processes and shared memory behind, so both are always removed.
        """
        process, self.process = self.process, None
        if process is None:
            self._leave()
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
        self._leave()

    def _leave(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.remove()

    def shared_memory(self) -> list[Path]:
        """Return the shared memory regions that this server's models use."""
        return sorted(Path("/dev/shm").glob(f"{self._region}*"))

    def __enter__(self) -> Server:
        return self.start() if self.process is None else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
