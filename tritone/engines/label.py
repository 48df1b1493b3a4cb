"""The label inside a TensorRT plan, which says what it was built for, and the check that it belongs to this machine.

A plan file is the raw engine, as Triton reads it. Its platform is recorded in the build folder's manifest and in the
engine's own name, which is plain text in the file and can be read without a GPU.
"""

from __future__ import annotations

import json
import mmap
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from tritone.build.manifest import Entry
from tritone.engines import gpu
from tritone.errors import ArtifactError

MARK = "tritone-plan "


@dataclass(frozen=True)
class Label:
    """The label of a plan: its stage, the platform it was built for, its file name, and the ONNX file's SHA-256."""

    stage: str
    platform: str
    file: str
    onnx: str

    def text(self) -> str:
        """Return the engine's name."""
        return MARK + json.dumps(asdict(self))


def read_label(path: Path) -> Label | None:
    """Return the label inside a plan file; None without a label. ArtifactError when the file is missing."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            match = re.search(re.escape(MARK.encode()) + rb"(\{[^{}]*\})", content)
            label = match[1] if match else b"{}"
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist; run: tritone build") from error
    except ValueError:  # an empty file cannot be mapped
        return None
    try:
        return Label(**json.loads(label))
    except (TypeError, ValueError):
        return None


def check_plan(entry: Entry | None, found_platform: str, path: Path) -> None:
    """Raise ArtifactError when the plan file at `path` must not run on `found_platform`.

    Args:
        entry: what the manifest records of it; None for a file that was just built, which only has its label.
    """
    again = "Run tritone build --formats tensorrt on this machine"
    label = read_label(path)
    if label is None:
        raise ArtifactError(f"{path} is no engine that Tritone built: it carries no label. {again}")
    if entry is not None and (label.file != path.name or label.platform != entry.identity.platform):
        raise ArtifactError(
            f"{path} is the engine {label.file} for {label.platform}, the manifest records one for "
            f"{entry.identity.platform or 'nothing'}; one of them was replaced by hand. {again}"
        )
    problem = gpu.mismatch(label.platform, found_platform)
    if problem:
        raise ArtifactError(f"{path} {problem}. {again}")
