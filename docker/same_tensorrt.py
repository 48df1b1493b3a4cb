"""Fail unless the installed tensorrt package is the version of the TensorRT library the Triton server will load.

Triton refuses a plan of another version only when it loads it; this check fails while the image is built.
Standard library only.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import re
import sys
from pathlib import Path

LIBRARIES = ("/usr/lib/*-linux-gnu", "/usr/local/tensorrt/lib", "/opt/tritonserver/lib")
"""Folders of the library in NVIDIA's containers, tried in order."""


def library(folders: tuple[str, ...] = LIBRARIES) -> Path:
    """Return the system's libnvinfer."""
    for pattern in folders:
        paths = sorted(path for path in Path("/").glob(f"{pattern.lstrip('/')}/libnvinfer.so.*"))
        if paths:
            return paths[0]
    sys.exit(f"error: no libnvinfer.so in {', '.join(folders)}; is this a tritonserver image?")


def version_text(number: int) -> str:
    """Return the library's version number as text: 110201 is "11.2.1"."""
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def problem(package: str, of_library: str) -> str:
    """Return how to fix a package version (four parts) that is not the library's (three); "" if they agree."""
    if re.match(r"\d+\.\d+\.\d+", package) and ".".join(package.split(".")[:3]) == of_library:
        return ""
    return (
        f"the tensorrt package is {package}, the server's TensorRT is {of_library}; "
        f"build with --build-arg TENSORRT={of_library}.* or another container"
    )


def main() -> int:
    """Compare the versions and return the exit status."""
    path = library()
    message = problem(importlib.metadata.version("tensorrt"), version_text(ctypes.CDLL(str(path)).getInferLibVersion()))
    if message:
        print(f"error: {path}: {message}", file=sys.stderr)
    return 1 if message else 0


if __name__ == "__main__":
    sys.exit(main())
