"""Documents name only what exists: links, files and modules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.prose import ROOT, files

PAGES = [path for path in files() if path.suffix == ".md" and not path.is_relative_to(ROOT / "checkpoints")]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
PATH = re.compile(
    r"(?<![\w/.-])((?:tritone|export|client|training|benchmarks|tests|docs|docker|model_repository)/[\w./-]*\w)"
)
OPTIONAL = ("model_repository/overrides",)
"""Places for a user's own files."""
MODULE = re.compile(r"python -m ((?:tritone|training)[\w.]*\w)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name)
def test_named_files_and_modules_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = [path for path in PATH.findall(text) if "NAME" not in path and not path.startswith(OPTIONAL)]
    paths = {path for path in named if not (ROOT / path).exists() and not (ROOT / f"{path}.py").exists()}
    modules = {
        module
        for module in MODULE.findall(text)
        if not (ROOT / module.replace(".", "/")).is_dir() and not (ROOT / f"{module.replace('.', '/')}.py").is_file()
    }
    assert (paths, modules) == (set(), set())
