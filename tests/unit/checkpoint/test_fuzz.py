"""Random damage to every file that a user brings: it is read or refused in words, within bounds of memory and time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
CASES = 240


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    """A child process, whose memory is bounded, damages files; `support.fuzz_files` says how to run it for longer."""
    done = subprocess.run(
        [sys.executable, "-m", "support.fuzz_files", str(tmp_path), "--cases", str(CASES), "--seed", "13"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["failures"] == []
    assert counts["read"] + counts["refused"] == counts["cases"] == CASES
    assert min(counts["read"], counts["refused"]) > CASES // 20
    assert counts["peak_mb"] - counts["before_mb"] < 1024
