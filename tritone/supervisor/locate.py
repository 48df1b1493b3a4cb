"""Finds the requirements of a Triton server on this machine: binary, Python backend, libpython and free ports.

Nothing is written into site-packages: the backend folder is assembled from links in a folder of the running server.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tritone.errors import EnvironmentProblem

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBPYTHON = f"libpython{PYTHON}.so.1.0"
STUB = "triton_python_backend_stub"
CONTAINER = Path("/opt/tritonserver")
"""The server's folder in NVIDIA's container; TRITONSERVER_DIR names another one."""


@dataclass(frozen=True)
class Ports:
    """The three ports of one server."""

    http: int = 8000
    grpc: int = 8001
    metrics: int = 8002


def wheel() -> Path:
    """Return the `tritonserver` folder inside the installed nvidia-pytriton wheel (without importing it)."""
    spec = importlib.util.find_spec("pytriton")
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        folder = Path(place) / "tritonserver"
        if (folder / "bin" / "tritonserver").is_file():
            return folder
    raise EnvironmentProblem(
        f"no Triton server for {sys.executable}: the nvidia-pytriton package "
        f"{'is damaged' if spec else 'is not installed'}; run: pip install 'tritone[serve]'"
    )


def complete_server(backend: str) -> Path:
    """Return the folder of a Triton server that has the backend; the wheel's server has Python's backend alone."""
    home = Path(os.environ.get("TRITONSERVER_DIR") or CONTAINER)
    missing = [path for path in (home / "bin" / "tritonserver", home / "backends" / backend) if not path.exists()]
    if missing:
        raise EnvironmentProblem(
            f"this target needs a Triton server with the {backend} backend, which nvidia-pytriton does not have; "
            f"{missing[0]} does not exist. Run it in the container: docker compose --profile gpu up --build "
            "(or name another installation with TRITONSERVER_DIR)"
        )
    return home


def library_folders() -> list[Path]:
    """Return the folders to search for a shared libpython: those of the running interpreter, then the system's."""
    own = [sysconfig.get_config_var("LIBDIR"), f"{sys.base_prefix}/lib"]
    listed = shutil.which("ldconfig") or "/sbin/ldconfig"
    cache: list[str] = []
    if os.access(listed, os.X_OK):
        lines = subprocess.run([listed, "-p"], capture_output=True, text=True, check=False).stdout.splitlines()
        cache = [os.path.dirname(line.split("=>")[1].strip()) for line in lines if LIBPYTHON in line and "=>" in line]
    paths = [*own, *cache, *os.environ.get("LD_LIBRARY_PATH", "").split(":")]
    return list(dict.fromkeys(Path(path) for path in paths if path))


def libpython(folders: Sequence[Path] | None = None) -> Path:
    """Return the shared Python library the backend's stub is linked against.

    `folders` defaults to `library_folders()`.
    """
    searched = library_folders() if folders is None else list(folders)
    for folder in searched:
        if (folder / LIBPYTHON).is_file():
            return folder / LIBPYTHON
    raise EnvironmentProblem(
        f"Triton's Python backend needs {LIBPYTHON}, which was not found in "
        f"{', '.join(map(str, searched)) or 'any folder'}; "
        f"on Debian or Ubuntu run: apt-get install libpython{PYTHON} "
        f"(elsewhere use a Python {PYTHON} built with --enable-shared)"
    )


def stub() -> Path:
    """Return the program of the wheel that runs Python models in this version of Python."""
    path = wheel() / "python_backend_stubs" / PYTHON / STUB
    if not path.is_file():
        have = ", ".join(sorted(other.name for other in path.parents[1].iterdir()))
        raise EnvironmentProblem(f"nvidia-pytriton has no Python backend for Python {PYTHON}; it has {have}")
    return path


def assemble(into: Path) -> Path:
    """Return `into/backends`, filled with links to Triton's Python backend and the stub for this version of Python."""
    backend = into / "backends" / "python"
    backend.mkdir(parents=True, exist_ok=True)
    for target in [*(wheel() / "backends" / "python").iterdir(), stub()]:
        link = backend / target.name
        if not (link.is_symlink() and os.readlink(link) == str(target)):
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    return backend.parent


def free_ports(host: str = "127.0.0.1") -> Ports:
    """Return three ports that are free at this moment."""
    probes = [socket.socket() for _ in range(3)]
    try:
        for probe in probes:
            probe.bind((host, 0))
        return Ports(*(probe.getsockname()[1] for probe in probes))
    finally:
        for probe in probes:
            probe.close()
