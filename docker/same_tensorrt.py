"""Fail unless the installed tensorrt package is the version of the TensorRT library the Triton server will load.

An engine of another version is refused by the server only when it starts; this says it while the image is built.
Standard library only.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import re
import sys
from pathlib import Path

LIBRARIES = ("/usr/lib/*-linux-gnu", "/usr/local/tensorrt/lib", "/opt/tritonserver/lib")
"""Where containers have the library, tried in order."""


def library(folders: tuple[str, ...] = LIBRARIES) -> Path:
    """Return the system's libnvinfer."""
    for pattern in folders:
        found = sorted(path for path in Path("/").glob(f"{pattern.lstrip('/')}/libnvinfer.so.*"))
        if found:
            return found[0]
    sys.exit(f"error: no libnvinfer.so in {', '.join(folders)}; is this a tritonserver image?")


def version_text(number: int) -> str:
    """Return the library's version number as text: 110201 is "11.2.1"."""
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def problem(package: str, of_library: str) -> str:
    """What to change when the package's version (four parts) is not the library's (three); empty when it is."""
    if re.match(r"\d+\.\d+\.\d+", package) and ".".join(package.split(".")[:3]) == of_library:
        return ""
    return (
        f"the tensorrt package is {package}, the server's TensorRT is {of_library}; "
        f"build with --build-arg TENSORRT={of_library}.* or another container"
    )


def main() -> int:
    """Compare; returns the exit status."""
    path = library()
    found = problem(importlib.metadata.version("tensorrt"), version_text(ctypes.CDLL(str(path)).getInferLibVersion()))
    if found:
        print(f"error: {path}: {found}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
