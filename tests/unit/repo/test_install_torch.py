"""Choosing torch's CPU build without downloading anything."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "docker" / "install_torch.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("install_torch", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("metadata", "cpu"),
    [
        ({"version": "2.13.0+cpu", "requires_dist": ["filelock"]}, True),
        ({"version": "2.13.0", "requires_dist": ["filelock", "sympy>=1.13"]}, True),
        ({"version": "2.13.0", "requires_dist": ["nvidia-cublas==13.1; platform_system == 'Linux'"]}, False),
        ({"version": "2.13.0", "requires_dist": ["cuda-bindings>=13"]}, False),
        ({}, False),
    ],
)
def test_cpu_builds_are_told_from_cuda_builds(script: ModuleType, metadata: dict[str, Any], cpu: bool) -> None:
    assert script.is_cpu_build(metadata) is cpu


@pytest.mark.parametrize("cpu", [True, False])
def test_index_is_used_only_where_pip_would_choose_the_cuda_build(
    script: ModuleType, cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(script, "offered", lambda _requirement: {"version": "2.13.0+cpu" if cpu else "2.13.0+cu130"})
    monkeypatch.setattr(script, "is_cpu_build", lambda metadata: "cpu" in metadata["version"])
    monkeypatch.setattr(script.subprocess, "run", run)
    assert script.main() == 0
    assert ran[0][-1] == script.pinned()
    assert (script.TORCH_INDEX in ran[0]) is not cpu


def test_unreachable_index_says_how_to_name_another(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "offered", lambda _requirement: {})
    monkeypatch.setattr(script.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))
    assert script.main() == 1
    assert "name another with TORCH_INDEX=URL" in capsys.readouterr().err


def test_the_pinned_version_is_the_one_pyproject_states(script: ModuleType) -> None:
    assert f'"{script.pinned()}"' in (SCRIPT.parents[1] / "pyproject.toml").read_text()
