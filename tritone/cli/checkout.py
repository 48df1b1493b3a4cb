"""The source checkout this package is imported from: training and benchmarks are part of it, not of the wheel."""

from __future__ import annotations

import os
from pathlib import Path

import tritone
from tritone.errors import ConfigError


def checkout(folder: str) -> Path:
    """Return the root of the source checkout.

    Args:
        folder: the folder of the checkout that the command needs.

    Raises:
        ConfigError: the package is installed from a wheel.
    """
    root = Path(tritone.__file__).resolve().parents[1]
    if not (root / folder / "__init__.py").is_file() or not (root / "pyproject.toml").is_file():
        raise ConfigError(
            f"this needs the folder {folder}/ of the source checkout, and tritone is installed at {root} without it; "
            "clone the repository that this package was built from and run: pip install -e '.[train,benchmark]'"
        )
    return root


def environment(root: Path) -> dict[str, str]:
    """Return the process environment with the checkout's packages importable."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))}
