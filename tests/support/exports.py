"""Exports of the tests' checkpoints, made once and shared by every test file and process that needs them."""

from __future__ import annotations

from pathlib import Path

from tritone.catalog import open_family
from tritone.serve import export_if_needed
from tritone.supervisor.launch import ROOT


def exported(checkpoint: Path, name: str) -> Path:
    """Return the folder build/NAME with what a cpu server of the checkpoint loads, exported anew where it is stale."""
    build = ROOT / "build" / name
    export_if_needed(open_family(checkpoint), checkpoint, build)
    return build
