"""Describing a model needs NumPy and PyYAML alone: stages, host steps and settings, without weights or tokenizers."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from support.bert_vits2.folder import write_tiny as write_bert_vits2
from support.moss_helpers import write_checkpoint as write_moss_ttsd

from tritone.catalog import KINDS

ROOT = Path(__file__).parents[3]
REFUSED = """
import sys
from importlib.abc import MetaPathFinder

class Refused(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {"numpy", "yaml", "_yaml", "tritone", *sys.stdlib_module_names}:
            raise ModuleNotFoundError(f"describing a model must not import {name}", name=name)

sys.meta_path.insert(0, Refused())
"""
DESCRIBE = """
import sys
from tritone.catalog import KINDS, open_family, published_family

described = [published_family(kind) for kind in KINDS] + [open_family(folder) for folder in sys.argv[1:]]
print(" ".join(f"{family.name}:{len(family.stages)}:{bool(family.request)}" for family in described))
"""


@pytest.fixture(scope="module")
def folders(tiny_v1: Path, tiny_v2: Path, tiny_v3: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """One checkpoint of each kind, in the order of `KINDS`."""
    made = tmp_path_factory.mktemp("described")
    (made / "bert").mkdir()
    (made / "moss").mkdir()
    return [*map(str, (tiny_v1, tiny_v2, tiny_v3, write_bert_vits2(made / "bert"), write_moss_ttsd(made / "moss")))]


def described(python: str | Path, code: str, folders: list[str]) -> list[str]:
    """Return name, number of stages and whether there are inputs, of the published families and of the folders."""
    found = subprocess.run(
        [str(python), "-c", code, *folders],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-2000:]
    return found.stdout.split()


def check(families: list[str]) -> None:
    """Assert that each folder was described as the published checkpoints of its kind are."""
    assert len(families) == 2 * len(KINDS)
    assert families[: len(KINDS)] == families[len(KINDS) :]


def test_a_model_is_described_without_other_packages(folders: list[str]) -> None:
    check(described(sys.executable, REFUSED + DESCRIBE, folders))


@pytest.mark.slow
def test_a_model_is_described_where_no_other_package_is_installed(folders: list[str], tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "numpy==1.26.4", "pyyaml==6.0.3"], check=True)
    check(described(python, DESCRIBE, folders))
