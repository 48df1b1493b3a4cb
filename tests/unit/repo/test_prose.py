"""The prose of the repository is plain English, as far as a machine can tell."""

from __future__ import annotations

import pytest
from support.prose import files, problems, python_problems

FOLDERS = ("tritone", "export", "client", "training", "benchmarks", "docs", "tests", "docker")


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_to_stumble_on(folder: str) -> None:
    assert [problem for path in files(folder) for problem in problems(path)] == []


def test_pages_at_the_root() -> None:
    assert [problem for path in files("*.md") for problem in problems(path)] == []


@pytest.mark.parametrize(
    "source",
    [
        'def f():\n    """What comes out."""',
        'def f():\n    """Return what comes out."""',
        '"""How it works."""',
        'raise ValueError("at most 1000 go; send parts")',
        "# the folder is told by its config",
    ],
)
def test_bad_prose_is_found(source: str) -> None:
    assert list(python_problems(source))
