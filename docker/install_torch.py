"""Install the pinned torch as its CPU build, whatever package index this machine uses.

pip's own sources are tried first. If they offer the CUDA build (gigabytes of NVIDIA libraries), the CPU wheel
comes from TORCH_INDEX instead. Uses the standard library only, because it runs before anything else is installed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

PIP = [sys.executable, "-m", "pip"]
TORCH_INDEX = os.environ.get("TORCH_INDEX") or "https://download.pytorch.org/whl/cpu"
FAIL_FAST = ["--retries", "1", "--timeout", "60"]


def pinned() -> str:
    """Return the requirement as pyproject.toml states it, such as "torch==2.13.0"."""
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text()
    match = re.search(r'"(torch==[^"]+)"', text)
    if match is None:
        sys.exit("error: pyproject.toml does not pin torch")
    return match.group(1)


def offered(requirement: str) -> dict[str, object]:
    """Return the metadata of the wheel that pip would choose from its sources; empty if it does not find one."""
    command = [
        *PIP,
        "install",
        "-q",
        "--dry-run",
        "--ignore-installed",
        "--no-deps",
        "--report",
        "-",
        *FAIL_FAST,
        requirement,
    ]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(result.stdout)["install"][0]["metadata"] if result.returncode == 0 else {}


def is_cpu_build(metadata: dict[str, object]) -> bool:
    """Return True for a wheel marked +cpu, or one that does not depend on NVIDIA libraries."""
    if str(metadata.get("version", "")).endswith("+cpu"):
        return True
    needs = metadata.get("requires_dist") or []
    assert isinstance(needs, list)
    return bool(metadata) and not any(re.match(r"nvidia|cuda", str(need)) for need in needs)


def main() -> int:
    """Install torch and return pip's exit status."""
    requirement = pinned()
    if is_cpu_build(offered(requirement)):
        return subprocess.run([*PIP, "install", requirement], check=False).returncode
    command = [*PIP, "install", "--no-deps", "--index-url", TORCH_INDEX, *FAIL_FAST, requirement]
    status = subprocess.run(command, check=False).returncode
    if status:
        print(
            f"error: no CPU build of {requirement} at {TORCH_INDEX}; name another with TORCH_INDEX=URL", file=sys.stderr
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
