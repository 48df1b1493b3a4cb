"""The serve command before any server starts: options, exports, and which model repository is used."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tritone import serve
from tritone.catalog import open_family
from tritone.errors import ArtifactError
from tritone.server.locate import Ports
from tritone.server.repository import REPOSITORY, differences, render, write


def test_ports_default_to_tritons_own() -> None:
    args = serve.parse(["voice"])
    assert Ports(args.http_port, args.grpc_port, args.metrics_port) == Ports(8000, 8001, 8002)
    assert args.host == "127.0.0.1"


def test_run_takes_the_rest_of_the_line() -> None:
    assert serve.parse(["voice", "--run", "client", "--check"]).run == ["client", "--check"]


def test_current_exports_are_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(serve.artifacts, "verify", lambda *_: None)
    monkeypatch.setattr(serve.subprocess, "run", lambda *_, **__: pytest.fail("exported again"))
    serve.export_if_needed(SimpleNamespace(), tmp_path, tmp_path)  # type: ignore[arg-type]


def test_stale_exports_are_built_and_checked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built: list[list[str]] = []

    def verify(*_: Any) -> None:
        if not built:
            raise ArtifactError("vocoder.onnx does not exist")

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        built.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(serve.artifacts, "verify", verify)
    monkeypatch.setattr(serve.subprocess, "run", run)
    serve.export_if_needed(SimpleNamespace(), tmp_path / "voice", tmp_path / "build")  # type: ignore[arg-type]
    assert built[0][1].endswith("export/build_engines.py")
    assert built[0][2:6] == ["--model-dir", str(tmp_path / "voice"), "--out", str(tmp_path / "build")]


def test_failing_export_is_an_error_with_its_status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def verify(*_: Any) -> None:
        raise ArtifactError("vocoder.onnx does not exist")

    monkeypatch.setattr(serve.artifacts, "verify", verify)
    monkeypatch.setattr(serve.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 3))
    with pytest.raises(ArtifactError, match="the export stopped with status 3"):
        serve.export_if_needed(SimpleNamespace(), tmp_path, tmp_path)  # type: ignore[arg-type]


def test_checkpoint_with_other_speakers_gets_a_repository_of_its_own(tiny_v2: Path, tmp_path: Path) -> None:
    family = open_family(tiny_v2)
    folder = serve.repository(family, "cpu", tmp_path)
    assert folder == tmp_path / "model_repository" / "cpu"
    assert differences(render(family, "cpu"), folder) == []


def test_committed_repository_is_used_when_it_fits(
    tiny_v2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = open_family(tiny_v2)
    files = render(family, "cpu", REPOSITORY / "overrides" / "cpu")
    monkeypatch.setattr(serve, "REPOSITORY", tmp_path / "committed")
    write(files, tmp_path / "committed" / "cpu")
    assert serve.repository(family, "cpu", tmp_path / "build") == tmp_path / "committed" / "cpu"
    assert not (tmp_path / "build").exists()
