"""A record of every start of a run, so that it can be repeated: code, configuration, machine and versions."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from training.core import distributed
from tritone.checkpoint.lines import text_lines

STARTS = "starts.jsonl"
PACKAGES = ("torch", "numpy", "numba", "transformers", "scipy", "soundfile", "tensorboard", "matplotlib")


def record(out: Path, config: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Append a line to `out/starts.jsonl`, which has one for each start of the run, and return its content."""
    row = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "git": git(Path(__file__).parent),
        "processes": distributed.world_size(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "host": {"platform": platform.platform(), "processor": _processor(), "cores": os.cpu_count()},
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "packages": {name: _version(name) for name in PACKAGES},
        "config": config,
    }
    out.mkdir(parents=True, exist_ok=True)
    with open(out / STARTS, "a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return row


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return `name: old -> new` for every value that differs between two configurations."""
    changes: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            changes += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            changes.append(f"{prefix}{key}: {a} -> {b}")
    return changes


def last_config(out: Path) -> dict[str, Any] | None:
    """Return the configuration of the last start in `out`, None for a new folder."""
    path = out / STARTS
    lines = text_lines(path) if path.exists() else []
    return dict(json.loads(lines[-1][1])["config"]) if lines else None


def git(folder: Path) -> dict[str, Any]:
    """Return the commit of the code, and whether tracked files have changed since; None outside a repository."""
    commit = _run(folder, "rev-parse", "HEAD")
    changes = _run(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": None if changes is None else bool(changes)}


def _run(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
