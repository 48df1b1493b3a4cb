"""A server that Triton's own race aborts is started once more; any other end is an error at once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tritone.supervisor import launch
from tritone.supervisor.launch import Server, ServerAborted, ServerFailed

SCRIPT = """
import os, pathlib, sys, time
runs = pathlib.Path(sys.argv[1])
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
if len(runs.read_text()) <= int(sys.argv[2]):
    print(sys.argv[3], flush=True)
    os.abort()
runs.with_name("ready").touch()
time.sleep(60)
"""


class Scripted(Server):
    """A server whose process is a script that aborts a number of times."""

    def __init__(self, folder: Path, aborts: int, last_words: str) -> None:
        super().__init__(folder, folder, {})
        self._script = [sys.executable, "-c", SCRIPT, str(folder / "runs"), str(aborts), last_words]

    def command(self) -> list[str]:
        return self._script

    def environment(self) -> dict[str, str]:
        return {}


@pytest.fixture(autouse=True)
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "ready_at", lambda *_: (tmp_path / "ready").exists())


def test_one_abort_is_repaired_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Scripted(tmp_path, 1, launch.ABORTED).start(60):
        assert (tmp_path / "runs").read_text() == "xx"
    assert "aborted while its models started (boost::interprocess::lock_exception); starting it again" in (
        capsys.readouterr().err
    )


def test_two_aborts_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServerAborted, match="aborted while its models started"):
        Scripted(tmp_path, 2, launch.ABORTED).start(60)


def test_another_end_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match=r"was ended by an abort \(signal 6\)"):
        Scripted(tmp_path, 1, "something else").start(60)
    assert (tmp_path / "runs").read_text() == "x"
