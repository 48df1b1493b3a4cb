"""The requirements of the server on the machine, and the message for each that is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tritone.errors import EnvironmentProblem
from tritone.supervisor import locate
from tritone.supervisor.locate import assemble, libpython


def test_libpython_is_found_in_the_first_folder_that_has_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / locate.LIBPYTHON).touch()
    assert libpython([tmp_path / "a", tmp_path / "b"]) == tmp_path / "b" / locate.LIBPYTHON


def test_missing_libpython_says_where_it_looked_and_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem) as error:
        libpython([tmp_path])
    assert locate.LIBPYTHON in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert f"apt-get install libpython{locate.PYTHON}" in str(error.value)


def test_backend_is_assembled_from_links_and_repaired(tmp_path: Path) -> None:
    backends = assemble(tmp_path)
    stub = backends / "python" / locate.STUB
    assert stub.is_symlink() and os.access(stub, os.X_OK)
    assert (backends / "python" / "libtriton_python.so").is_file()
    stub.unlink()
    stub.symlink_to(tmp_path / "elsewhere")
    assemble(tmp_path)
    assert stub.resolve().is_file()


def test_missing_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EnvironmentProblem, match=r"nvidia-pytriton package is not installed; run: pip install"):
        locate.wheel()


def test_wheel_without_this_python_says_which_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(locate, "PYTHON", "3.99")
    with pytest.raises(EnvironmentProblem, match=r"no Python backend for Python 3\.99; it has .*3\.11"):
        assemble(tmp_path)
