"""The wheel holds the package `tritone` with its data, and no other package of the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the names of the wheel's files, and the text of its metadata."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listed.splitlines():
        # The other folders' code is copied, too: it must be left out of the wheel, not just absent here.
        if (ROOT / name).is_file() and (name.endswith((".py", ".toml", ".md")) or name.startswith("tritone/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        return {n: archive.read(n).decode() if ".dist-info/" in n else "" for n in names}


def test_the_wheel_is_the_package_and_nothing_else(contents: dict[str, str]) -> None:
    inside = {name for name in contents if ".dist-info/" not in name}
    tracked = subprocess.run(["git", "ls-files", "tritone"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert inside == {name for name in tracked.stdout.splitlines() if (ROOT / name).is_file()}


def test_the_wheel_installs_the_command(contents: dict[str, str]) -> None:
    (entry_points,) = (text for name, text in contents.items() if name.endswith("entry_points.txt"))
    assert "tritone = tritone.cli:main" in entry_points
