"""The folder of a running server has a plain name whatever else is called, and nothing of it stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tritone.errors import EnvironmentProblem
from tritone.supervisor import run_folder
from tritone.supervisor.launch import ROOT, Server
from tritone.supervisor.run_folder import PLAIN, RunFolder, link_python, open_log, plain_parent, remove_abandoned

ODD = "a (b) [c] $HOME & \"q\" 'x';声音"


@pytest.fixture
def parent() -> Iterator[Path]:
    """A short folder: pytest's own may be longer than a run folder's parent can be."""
    link = Path("/tmp") / f"run-folder-test-{os.getpid()}"
    link.mkdir()
    yield link
    for path in link.iterdir():
        path.rmdir()
    link.rmdir()


def test_links_have_plain_names_and_lead_to_folders_of_any_name(tmp_path: Path) -> None:
    (tmp_path / ODD).mkdir()
    (tmp_path / ODD / "file").write_text("content")
    run = RunFolder()
    try:
        link = run.link("checkpoint", tmp_path / ODD)
        assert PLAIN.fullmatch(str(link)) and (link / "file").read_text() == "content"
        assert run.path.stat().st_mode & 0o777 == 0o700
        assert run.told(f"{link}/file is missing") == f"{tmp_path / ODD}/file is missing"
    finally:
        run.remove()
    assert not run.path.exists() and (tmp_path / ODD / "file").exists()


def test_every_path_that_triton_gets_is_plain(tmp_path: Path) -> None:
    (tmp_path / ODD).mkdir()
    server = Server(tmp_path / ODD, tmp_path / ODD, {"TRITONE_MODEL_DIR": str(tmp_path / ODD)})
    try:
        env, command = server.environment(), server.command()
        paths = [word.partition("=")[2] for word in command if "repository=" in word or "directory=" in word]
        assert len(paths) == 2 and all(map(PLAIN.fullmatch, [*paths, env["TRITONE_MODEL_DIR"]]))
        assert Path(env["TRITONE_MODEL_DIR"]).samefile(tmp_path / ODD)
        first = Path(env["PYTHONPATH"].split(os.pathsep)[0])
        assert (first / "tritone").resolve() == ROOT / "tritone"
        assert env["LC_ALL"] == "C.UTF-8"
    finally:
        server.stop()
    assert not first.exists()


def test_folder_for_temporary_files_with_an_odd_or_long_name_is_passed_over(tmp_path: Path, parent: Path) -> None:
    (parent / ODD).mkdir()
    (parent / ("x" * 80)).mkdir()
    assert plain_parent([parent / ODD, parent / ("x" * 80), tmp_path / "missing", parent]) == parent
    with pytest.raises(EnvironmentProblem, match=r"none of .*声音 can be written, .* set TMPDIR to one that does"):
        plain_parent([parent / ODD])


def test_folders_of_killed_servers_are_removed_and_those_in_use_are_kept(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "FRESH", -1)
    code = (
        "import os, signal, sys; from pathlib import Path; from tritone.supervisor.run_folder import RunFolder\n"
        "print(RunFolder([Path(sys.argv[1])]).path, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(parent)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    left = Path(killed.stdout.strip())
    assert left.parent == parent and left.is_dir()
    held = RunFolder([parent])
    try:
        assert not left.exists()
        remove_abandoned(parent)
        assert held.path.is_dir()
    finally:
        held.remove()


def test_python_is_found_by_a_plain_path_with_its_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    odd = tmp_path / ODD
    packages = odd / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    (packages / "a_package").mkdir(parents=True)
    (packages / "a_package" / "__init__.py").write_text("NAME = 'found'")
    (packages / "checkout.pth").write_text(f"{odd}\n")
    monkeypatch.setattr(sys, "prefix", str(odd))
    run = RunFolder()
    try:
        python = link_python(run) / "python3"
        code = "import a_package, sys; print(a_package.NAME, sys.prefix)"
        said = subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, check=True).stdout
        assert said.split() == ["found", str(run.path / "python")]
        assert not list(run.path.glob("python/lib/*/*/*.pth"))
    finally:
        run.remove()


def test_log_goes_to_temporary_files_where_the_build_folder_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_log(tmp_path / "new" / "tritonserver-1.log") as log:
        assert log.name == str(tmp_path / "new" / "tritonserver-1.log")
    monkeypatch.setattr(run_folder.tempfile, "tempdir", str(tmp_path))
    (tmp_path / "file").touch()
    with open_log(tmp_path / "file" / "tritonserver-1.log") as log:
        assert Path(str(log.name)).parent == tmp_path and "tritonserver-1-" in str(log.name)
    monkeypatch.setattr(run_folder.tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(
        EnvironmentProblem, match=r"log can be written neither to .* make room in one of them, or set TMPDIR"
    ):
        open_log(tmp_path / "file" / "tritonserver-1.log")
