"""Checks of the machine before anything is exported: each says what was found and what to do."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from tritone import serve
from tritone.catalog import open_family
from tritone.errors import EnvironmentProblem
from tritone.server.repository import render
from tritone.supervisor import preflight
from tritone.supervisor.locate import Ports, free_ports
from tritone.supervisor.preflight import check_ports, check_shared_memory, in_url, missing_command, model_processes


def test_taken_port_is_named_with_the_option_to_choose_another() -> None:
    ports = free_ports()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", ports.grpc))
        holder.listen()
        with pytest.raises(EnvironmentProblem, match=rf"grpc port {ports.grpc} .*--grpc-port"):
            check_ports(ports)
    check_ports(ports)


def test_impossible_ports_are_refused() -> None:
    for number in (70000, 0, -1):
        with pytest.raises(EnvironmentProblem, match=f"http port {number} is not a port number"):
            check_ports(Ports(http=number))
    with pytest.raises(EnvironmentProblem, match="must differ"):
        check_ports(Ports(8000, 8000, 8002))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "127.0.0.2"])
def test_hosts_of_this_machine_are_accepted(host: str) -> None:
    check_ports(free_ports(), host)


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("192.0.2.1", r"the host 192\.0\.2\.1 is not an address of this machine .* --host one that is: 127\.0\.0\.1"),
        ("no.such.host.invalid", r"the host 'no\.such\.host\.invalid' is not known .*; give --host an address"),
        ("a b", r"the host 'a b' is not known"),
        ("x" * 70, "is not known"),
    ],
)
def test_other_hosts_are_refused_with_those_that_work(host: str, sentence: str) -> None:
    with pytest.raises(EnvironmentProblem, match=sentence):
        check_ports(free_ports(), host)


def test_a_name_of_two_protocols_needs_only_the_one_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    here, other = ("127.0.0.1", 0), ("192.0.2.1", 0)
    monkeypatch.setattr(preflight, "addresses", lambda *_: [(socket.AF_INET, other), (socket.AF_INET, here)])
    check_ports(free_ports(), "localhost")


def test_addresses_to_listen_on_become_addresses_to_ask() -> None:
    asked = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]", "10.0.0.1": "10.0.0.1", "localhost": "localhost"}
    assert {host: in_url(host) for host in asked} == asked


def test_commands_are_looked_for_before_anything_starts(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.touch()
    assert missing_command(["sh", "-c", "true"]) == ""
    assert "--run needs a command" in missing_command([])
    assert (
        missing_command(["no_such_command"])
        == "--run no_such_command: there is no such command (no folder of PATH has it)"
    )
    assert "it is not an executable file" in missing_command([str(script)])
    script.chmod(0o700)
    assert missing_command([str(script)]) == ""


@pytest.mark.parametrize("command", [[], ["no_such_command", "--check"]])
def test_run_without_a_command_that_exists_is_a_sentence_and_status_2(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        serve.main(["checkpoints/nano", "--run", *command])
    assert end.value.code == 2
    assert "error: --run" in capsys.readouterr().err


def test_ports_are_checked_before_the_export(tiny_v2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "export_if_needed", lambda *_: pytest.fail("exported before the ports were checked"))
    ports = free_ports()
    options = [f"--{name}-port={port}" for name, port in vars(ports).items()]
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", ports.metrics))
        holder.listen()
        with pytest.raises(EnvironmentProblem, match="metrics port"):
            serve.start(serve.parse([str(tiny_v2), *options]))


def memory(monkeypatch: pytest.MonkeyPatch, mebibytes: int) -> None:
    status = SimpleNamespace(f_bavail=mebibytes, f_frsize=1 << 20)
    monkeypatch.setattr(preflight.os, "statvfs", lambda _folder: status)


def test_small_shared_memory_is_refused_with_what_is_needed_and_how_to_give_it(
    tiny_v2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = model_processes(render(open_family(tiny_v2), "cpu"))
    assert processes == 11  # five host steps, three of them twice, two services and the stream
    memory(monkeypatch, 8)
    with pytest.raises(
        EnvironmentProblem, match=r"11 model processes need 13 MiB .* has 8 MiB free; .*docker run --shm-size=256m"
    ):
        check_shared_memory(processes)
    memory(monkeypatch, 14)
    assert ["14 MiB free; long recordings and answers can fail" in line for line in check_shared_memory(processes)] == [
        True
    ]
    memory(monkeypatch, 64)
    assert check_shared_memory(processes) == []


def test_missing_shared_memory_is_said() -> None:
    with pytest.raises(EnvironmentProblem, match=r"cannot be read \(No such file or directory\); mount a tmpfs"):
        check_shared_memory(1, Path("/no_such_folder"))
