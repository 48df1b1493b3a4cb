"""Commands that are run by a Python without their packages, which is the first thing that many people do."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tritone import missing_packages
from tritone.cli import main
from tritone.missing_packages import EXTRAS, ROOT, explain, is_command, sentence

COMMANDS = (
    "-m tritone.serve checkpoints/nano", "-m tritone say hello", "-m tritone serve checkpoints/nano", "client/speak.py",
    "export/build_engines.py", "export/repository.py", "-m training --help", "-m training.prepare",
    "-m tritone.families.moss_ttsd.batch x",
)  # fmt: skip


def test_no_entry_point_ends_in_a_traceback() -> None:
    """Without `site` a Python finds the standard library alone."""
    programs = [
        subprocess.Popen([sys.executable, "-S", *command.split()], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for command in COMMANDS
    ]
    for program in programs:
        _, said = program.communicate(timeout=120)
        assert program.returncode == 1 and said.count("\n") == 1
        assert said.startswith(f"error: the Python {sys.executable} has no package ")


def test_the_sentence_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "tritone.serve"])
    missing = ModuleNotFoundError(name="google.protobuf")
    monkeypatch.setattr(missing_packages, "ROOT", tmp_path)
    assert sentence(missing).endswith(
        "has no package protobuf, which this command needs; run: pip install 'tritone[serve]'"
    )
    (tmp_path / "pyproject.toml").touch()
    assert sentence(missing).endswith(f"make .venv with all packages; or run: pip install -e '{tmp_path}[serve]'")
    monkeypatch.setattr(sys, "orig_argv", ["python", "client/speak.py"])
    assert sentence(missing).endswith("[client]'")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "training"])
    assert sentence(ModuleNotFoundError(name="torch")).endswith("[train]'")
    assert sentence(ModuleNotFoundError(name="yaml")).endswith(f"pip install -e '{tmp_path}'")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    assert f"use the checkout's own, {tmp_path}/.venv/bin/python (or run: . {tmp_path}/.venv" in sentence(missing)
    assert sentence(ModuleNotFoundError(name="tritone.nonsense")) == ""


def test_only_own_programs_are_changed_and_other_errors_stay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, own in {
        "-m": True, str(ROOT / "client" / "speak.py"): True, "/usr/lib/other.py": False, "": False,
        str(ROOT / ".venv/lib/python3.11/site-packages/pytest/__main__.py"): False, "/x/bin/tritone": False,
    }.items():  # fmt: skip
        monkeypatch.setattr(sys, "argv", [name])
        assert is_command() is own
    monkeypatch.delattr(sys, "argv")
    assert not is_command()
    shown: list[object] = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: shown.append(error[0]))
    explain()
    for error in (ModuleNotFoundError(name="torch"), ModuleNotFoundError(name="odd"), ValueError("x")):
        sys.excepthook(type(error), error, None)
    assert shown == [ModuleNotFoundError, ValueError]
    assert capsys.readouterr().err.count("has no package torch") == 1
    monkeypatch.setattr(missing_packages, "OLDEST", (4, 0))
    with pytest.raises(SystemExit, match=r"error: this needs Python 4\.0 or later; .* is 3\.1"):
        explain()


def test_the_command_says_the_same(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "tritone.serve", None)
    with pytest.raises(ModuleNotFoundError):  # no package that could be installed
        main(["serve", "x"])
    monkeypatch.setattr(
        "tritone.cli.import_module", lambda name: (_ for _ in ()).throw(ModuleNotFoundError(name="tqdm"))
    )
    assert main(["build", "x"]) == 1
    assert "error: the Python " in (said := capsys.readouterr().err) and "has no package tqdm" in said


def test_every_extra_exists_and_brings_its_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    brought = {"google": "tritonclient", "grpc": "tritonclient", "geventhttpclient": "tritonclient", "yaml": "pyyaml"}
    for extra, modules in EXTRAS.items():
        listed = project["optional-dependencies"][extra] if extra else project["dependencies"]
        names = {entry.partition("=")[0].partition("[")[0].replace("-", "_") for entry in listed}
        assert {brought.get(module, module) for module in modules} <= names
