"""The first and the second `make say` of a fresh clone: seconds to the wav, and the size of the environment.

    python benchmarks/first_use.py [--folder FOLDER]

Clones this checkout's commit into a temporary folder and types what the README says. Packages come from wherever pip
gets them on this machine; its cache is not used.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import FRESH, ROOT, Table, write_report
from tritone.supervisor.locate import free_ports


def spoken(clone: Path, wav: Path) -> float:
    """Return the seconds from the command to its end; raise CalledProcessError with what it printed if it fails."""
    ports = [f"{name.upper()}_PORT={port}" for name, port in vars(free_ports()).items()]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTHON", "VIRTUAL"))}
    start = time.perf_counter()
    words = ["make", "say", f"OUT={wav}", *ports]
    subprocess.run(words, cwd=clone, env=clean | {"PIP_NO_CACHE_DIR": "1"}, check=True, stdout=sys.stderr)
    seconds = time.perf_counter() - start
    if not wav.stat().st_size:
        raise ValueError(f"{wav} is empty")
    return seconds


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder; links are not followed."""
    files = (path.lstat() for path in folder.rglob("*") if not path.is_dir())
    return sum(found.st_size for found in files)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write JSON and a page, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FRESH, help="folder of the results (default %(default)s)")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tritone-first-", dir="/var/tmp") as temporary:
        clone = Path(temporary) / "tritone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        first, second = (spoken(clone, Path(temporary) / f"{name}.wav") for name in ("first", "second"))
        data: dict[str, float] = {
            "first_s": round(first, 1),
            "second_s": round(second, 1),
            "environment_gb": round(size(clone / ".venv") / 1e9, 2),
            "export_mb": round(size(clone / "build") / 1e6),
        }
    rows: list[list[str | float]] = [
        ["make say in a fresh clone, s", data["first_s"]],
        ["make say again, s", data["second_s"]],
        ["size of .venv, GB", data["environment_gb"]],
        ["exported voice, MB", data["export_mb"]],
    ]
    table = Table("From the command to the wav", ["", ""], rows)
    print(write_report("first_use", "First use", data, [table], folder=args.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
