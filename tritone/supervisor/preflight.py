"""Checks of everything a start needs from the machine, in a second, before anything is exported for a minute."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path

from tritone.errors import EnvironmentProblem
from tritone.supervisor.leftovers import SHARED_MEMORY
from tritone.supervisor.locate import Ports, libpython, stub

ELSEWHERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Errors of an address that this machine does not have."""
MEBIBYTE = 1 << 20
SPARE = 2 * MEBIBYTE
"""Shared memory that a server needs beyond one MiB for each model process."""
COMFORTABLE = 64 * MEBIBYTE
"""Shared memory with which recordings and answers of the longest allowed length fit; a container has this much."""


def check_ports(ports: Ports, host: str = "127.0.0.1") -> None:
    """Raise EnvironmentProblem if the host is not this machine's, or a port is invalid or in use."""
    if len(set(astuple(ports))) != 3:
        raise EnvironmentProblem(f"the http, grpc and metrics ports must differ; asked for {astuple(ports)}")
    for name, port in vars(ports).items():
        if not 0 < port < 1 << 16:
            raise EnvironmentProblem(f"{name} port {port} is not a port number (1 to 65535)")
    for name, port in vars(ports).items():
        errors = [probe(family, address) for family, address in addresses(host, port)]
        # A name such as localhost can stand for an address of a protocol that this machine does not have.
        here = [error for error in errors if error is None or error.errno not in ELSEWHERE]
        for error in here or errors:
            if error is not None:
                raise EnvironmentProblem(refusal(name, port, host, error)) from error


def probe(family: int, address: tuple[object, ...]) -> OSError | None:
    """Return the error of listening at the address, None if it can be done."""
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            return error
    return None


def addresses(host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    """Return the socket families and addresses that a host's name or address stands for."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise EnvironmentProblem(
            f"the host {host!r} is not known ({error}); give --host an address of this machine: 127.0.0.1 for this "
            "machine alone, 0.0.0.0 for all its addresses"
        ) from error
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def refusal(name: str, port: int, host: str, error: OSError) -> str:
    """Return the sentence for a port that cannot be opened."""
    if error.errno in ELSEWHERE:
        return (
            f"the host {host} is not an address of this machine ({error.strerror}); give --host one that is: "
            "127.0.0.1 for this machine alone, 0.0.0.0 for all its addresses"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{name} port {port} on {host} needs root ({error.strerror}); choose one above 1023 with --{name}-port"
    return (
        f"{name} port {port} on {host} cannot be used ({error.strerror}); stop the program "
        f"that uses it, or choose another port with --{name}-port"
    )


def in_url(host: str) -> str:
    """Return the host as it is reached from this machine and written in a URL: `[::1]` for `::`."""
    own = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{own}]" if ":" in own else own


def missing_command(command: Sequence[str]) -> str:
    """Return the sentence for a command that cannot be run, empty if it can."""
    if not command:
        return "--run needs a command, such as: --run python client/speak.py --speakers"
    if shutil.which(command[0]) is None:
        where = "it is not an executable file" if os.sep in command[0] else "no folder of PATH has it"
        return f"--run {command[0]}: there is no such command ({where})"
    return ""


def check_server(home: Path | None) -> None:
    """Raise EnvironmentProblem if the Triton server of the wheel, or a library it needs, is not installed.

    Args:
        home: folder of another server's installation, which brings its own; None for the wheel's.
    """
    if home is None:
        stub()
        libpython()


def model_processes(files: Mapping[str, bytes]) -> int:
    """Return the number of Python processes that a rendered model repository starts."""
    configs = [text.decode() for name, text in files.items() if name.endswith("config.pbtxt")]
    return sum(count(text) for text in configs if re.search(r'^backend: "python"', text, re.MULTILINE))


def count(config: str) -> int:
    """Return the number of instances in one model's config."""
    return sum(int(number) for number in re.findall(r"^  count: (\d+)", config, re.MULTILINE)) or 1


def check_shared_memory(processes: int, folder: Path = SHARED_MEMORY) -> Iterable[str]:
    """Return warnings about the shared memory; raise EnvironmentProblem if it is too small for the models to start."""
    needed = processes * MEBIBYTE + SPARE
    try:
        status = os.statvfs(folder)
        free = status.f_bavail * status.f_frsize
    except OSError as error:
        raise EnvironmentProblem(
            f"the models need shared memory, but {folder} cannot be read ({error.strerror}); mount a tmpfs there"
        ) from error
    how = f"docker run --shm-size=256m, compose's shm_size: 256m, or mount -o remount,size=256m {folder}"
    if free < needed:
        raise EnvironmentProblem(
            f"{processes} model processes need {needed / MEBIBYTE:.0f} MiB of shared memory to start and 64 MiB for "
            f"long recordings, but {folder} has {free / MEBIBYTE:.0f} MiB free; give it more: {how}"
        )
    if free < COMFORTABLE:
        return [
            f"warning: {folder} has {free / MEBIBYTE:.0f} MiB free; long recordings and answers can fail below 64 MiB. "
            f"Give it more: {how}"
        ]
    return []
