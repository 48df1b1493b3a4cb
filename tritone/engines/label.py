"""What a TensorRT engine was built for, kept inside it, and the refusal of engines that belong elsewhere.

A plan file is the raw engine, as Triton reads it. What it was built for stands in the build folder's manifest, and in
the engine's own name, which is plain text in the file and so can be read back without a GPU.
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
    """What an engine says of itself: its stage, what it was built for, its file's name, and the ONNX file's SHA-256."""

    stage: str
    platform: str
    file: str
    onnx: str

    def text(self) -> str:
        """Return the engine's name."""
        return MARK + json.dumps(asdict(self))


def read_label(path: Path) -> Label | None:
    """Return the label inside a plan file; None when there is none. ArtifactError when there is no such file."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            match = re.search(re.escape(MARK.encode()) + rb"(\{[^{}]*\})", content)
            found = match[1] if match else b"{}"
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist; run: tritone build") from error
    except ValueError:  # an empty file cannot be mapped
        return None
    try:
        return Label(**json.loads(found))
    except (TypeError, ValueError):
        return None


def check_plan(entry: Entry | None, found_platform: str, path: Path) -> None:
    """Raise ArtifactError when the plan file at `path` must not run on `found_platform`.

    Args:
        entry: what the manifest records of it; None for a file just built, which its label alone speaks for.
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
