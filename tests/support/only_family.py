"""Run one family's unit tests in a copy of the repository without the other families.

python tests/support/only_family.py [FAMILY ...]
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ("cosyvoice", "bert_vits2", "moss_ttsd")
FOLDERS = ("tritone/families", "training", "benchmarks", "tests/unit/families", "tests/unit/training")


def without_others(folder: Path, family: str) -> None:
    """Copy the repository into the folder and delete the other families, with their lines in the catalog."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file() and not name.startswith("checkpoints/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    for other in FAMILIES:
        if other != family:
            for parent in FOLDERS:
                shutil.rmtree(folder / parent / other, ignore_errors=True)
    catalog = folder / "tritone" / "catalog.py"
    catalog.write_text(without_kinds(catalog.read_text(), [other for other in FAMILIES if other != family]))


def without_kinds(source: str, families: list[str]) -> str:
    """Return the catalog's source without the entries of `KINDS` that name one of these families."""
    tree = ast.parse(source)
    (kinds,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and "KINDS" in ast.unparse(node))
    assert isinstance(kinds, ast.List)
    kinds.elts = [entry for entry in kinds.elts if not any(name in ast.unparse(entry) for name in families)]
    return ast.unparse(tree)


def main(families: list[str]) -> int:
    """Run the tests of each family; return 1 when any fails."""
    failed = 0
    for family in families or FAMILIES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            without_others(folder, family)
            environment = os.environ | {"PYTHONPATH": str(folder)}
            command = [sys.executable, "-m", "pytest", "-q", f"tests/unit/families/{family}"]
            print(f"== {family} alone", flush=True)
            failed |= subprocess.run(command, cwd=folder, env=environment, check=False).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
