"""Train a recipe: `python -m training` of the source checkout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from tritone.cli.checkout import checkout, environment
from tritone.errors import TritoneError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the training; return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        root = checkout("training")
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return subprocess.run([sys.executable, "-m", "training", *given], env=environment(root), check=False).returncode
