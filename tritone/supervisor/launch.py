"""Starts a Triton server on a model repository, waits until it is ready, and stops it.

Triton listens on sockets in a folder that only its user can enter; clients reach it through the front door.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from tritone.errors import TritoneError
from tritone.supervisor.health import ready_at
from tritone.supervisor.leftovers import SHARED_MEMORY as SHARED_MEMORY
from tritone.supervisor.locate import assemble, libpython, wheel
from tritone.supervisor.reasons import ending
from tritone.supervisor.run_folder import RunFolder, link_python, open_log

ROOT = Path(__file__).resolve().parents[2]
"""The folder that contains the package `tritone`: a checkout, or site-packages."""
Progress = Callable[[str, int, int], None]
LOADED = re.compile(r"successfully loaded '([^']+)'")
ABORTED = "boost::interprocess::lock_exception"
"""The exception of that race in the Python backend of Triton 2.51, seen in one of some twenty starts."""
EXIT_SECONDS = 5
"""Seconds that Triton waits for running requests when it is stopped."""


class ServerFailed(TritoneError):
    """The server stopped or a model did not load; the message contains the first error of the log."""


class ServerAborted(ServerFailed):
    """Triton aborted in a race of its own between model processes that start at the same time."""


class Server:
    """One Triton server process; use it as a context manager, or call `start` and `stop`.

    Start it in a thread that lives as long as the server: the kernel ends it with that thread.

    Args:
        repository: folder of models, each with a config.pbtxt.
        build: folder for the log; if it cannot be written, the log lies in the folder for temporary files.
        env: variables that the models' configs refer to (TRITONE_MODEL_DIR, ...), added to the process environment;
            those that end in _DIR are folders, handed on as links with plain names.
        home: folder of a server installation (bin, backends); None for the one in the nvidia-pytriton wheel.
        options: further command-line options of the server, without dashes.
        name: part of the log's name.
    """

    def __init__(
        self,
        repository: Path,
        build: Path,
        env: Mapping[str, str],
        home: Path | None = None,
        options: Mapping[str, str] | None = None,
        name: str = "server",
    ) -> None:
        self.repository, self.build = repository.resolve(), build.resolve()
        self.env, self.home, self.options = dict(env), home, dict(options or {})
        self.log = self.build / f"triton{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.timeout = 120.0
        self._run: RunFolder | None = None

    @property
    def run(self) -> RunFolder:
        """The folder of links and sockets that the server runs in, made when it is first needed."""
        if self._run is None:
            self._run = RunFolder()
            self._run.link("tritone", ROOT / "tritone")
        return self._run

    @property
    def http(self) -> Path:
        """The socket of Triton's HTTP endpoint."""
        return self.run.path / "http"

    @property
    def metrics(self) -> Path:
        """The socket of Triton's metrics page."""
        return self.run.path / "metrics"

    @property
    def grpc(self) -> str:
        """The address of Triton's gRPC endpoint, for a gRPC client; Triton joins path and port by a colon."""
        return f"unix:{self.run.path}/grpc:1"

    @property
    def flags(self) -> Path:
        """The folder in which the front door flags requests."""
        folder = self.run.path / "flags"
        folder.mkdir(exist_ok=True)
        return folder

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
        """Return the command line, with every relevant setting written out.

        In explicit mode a single model can be loaded again; the front door lets no client ask for that.
        """
        pairs = {
            "model-repository": self.run.link("models", self.repository),
            "backend-directory": self.home / "backends" if self.home else assemble(self.run.path),
            "model-control-mode": "explicit", "load-model": "*",
            "http-address": f"unix:{self.http}", "grpc-address": self.grpc.rpartition(":")[0], "grpc-port": 1,
            "metrics-address": f"unix:{self.metrics}",
            "backend-config": f"python,shm-region-prefix-name={self.region}",
            "allow-gpu-metrics": "false", "exit-timeout-secs": EXIT_SECONDS, **self.options,
        }  # fmt: skip
        setpriv = shutil.which("setpriv")
        return [
            *([setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []),
            str((self.home or wheel()) / "bin" / "tritonserver"),
            "--disable-auto-complete-config",
            *(f"--{key}={value}" for key, value in pairs.items()),
        ]

    @property
    def region(self) -> str:
        """The beginning of the names of this server's shared memory regions, the same as its folder's."""
        return f"{self.run.path.name}-"

    def start(self, timeout: float | None = None, progress: Progress | None = None) -> Server:
        """Start the server and return it once every model is ready; raise EnvironmentProblem or ServerFailed.

        A server that Triton's own race aborts while it starts is started once more.

        Args:
            timeout: seconds to wait (default: those of the last start).
        """
        self.timeout = timeout or self.timeout
        try:
            self._launch(self.timeout, progress)
        except ServerAborted as error:
            print(f"{error}; starting it again", file=sys.stderr, flush=True)
            self._launch(self.timeout, progress)
        return self

    def _launch(self, timeout: float, progress: Progress | None) -> None:
        command, env = self.command(), self.environment()
        for socket in self.run.path.glob("*:1"):
            socket.unlink()
        for socket in (self.http, self.metrics):
            socket.unlink(missing_ok=True)
        with open_log(self.log) as log:
            self.log = Path(log.name)
            self.process = subprocess.Popen(
                command, env=env, cwd=self.run.path, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        try:
            self._wait(time.monotonic() + timeout, timeout, progress)
        except BaseException:
            self.kill()
            raise

    def _wait(self, deadline: float, timeout: float, progress: Progress | None) -> None:
        process = self.process
        total = sum(1 for _ in self.repository.glob("*/config.pbtxt"))
        seen = 0
        while True:
            up = ready_at(self.http)
            names = LOADED.findall(self.log.read_text(errors="replace"))
            for index in range(seen, len(names)):
                if progress is not None:
                    progress(names[index], index + 1, total)
            seen = len(names)
            if up:
                return
            if process is None or process.poll() is not None:
                if process and process.returncode < 0 and ABORTED in self.log.read_text(errors="replace"):
                    raise ServerAborted(f"the Triton server aborted while its models started ({ABORTED})")
                raise ServerFailed(f"the Triton server {self.ended()}")
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"the Triton server was not ready after {timeout:g} s ({seen} of {total} models loaded); "
                    f"see {self.log}"
                )
            time.sleep(0.05)

    def ended(self) -> str:
        """Return how the server ended, to be read after its name, with the log's path."""
        if self.process is None or self.process.returncode is None:
            return "was stopped"
        reason = self.run.told(ending(self.process.returncode, self.log.read_text(errors="replace")))
        return f"{reason} (full log: {self.log})"

    def reload(self, model: str, seconds: float) -> None:
        """Load a model again, whose process may have died; raise ServerFailed if that fails.

        Models that are not asked for go on answering. Requests that the old process was answering end with an error.
        """
        from tritonclient import grpc

        with grpc.InferenceServerClient(self.grpc, channel_args=[("grpc.enable_http_proxy", 0)]) as client:
            try:
                client.unload_model(model, client_timeout=seconds)
                client.load_model(model, client_timeout=seconds)
            except Exception as error:
                raise ServerFailed(f"{model} could not be loaded again: {error}") from error

    def stop(self, grace: float = 10) -> None:
        """Send SIGTERM, wait up to `grace` seconds, then end what is left, and remove the folder and the memory.

        A server that crashed can leave model processes and shared memory behind, so both are always removed.
        """
        process = self.process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        self.kill()
        run, self._run = self._run, None
        if run is not None:
            run.remove()

    def kill(self) -> None:
        """End the server and its models at once, and remove their shared memory; its folder stays for another start."""
        process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self._run is not None:
            for region in self.shared_memory():
                region.unlink(missing_ok=True)

    def shared_memory(self) -> list[Path]:
        """Return the shared memory regions that this server's models use."""
        return sorted(SHARED_MEMORY.glob(f"{self.region}*"))

    def __enter__(self) -> Server:
        return self.start() if self.process is None else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
