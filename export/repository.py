"""Render the committed Triton model repository of a checkpoint.

    python export/repository.py [--target cpu] [--check] [checkpoint]

The tree in `model_repository/<target>/` is committed; `--check` fails when it differs from what would be rendered.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tritone.catalog import open_family
from tritone.errors import ArtifactError, TritoneError
from tritone.server.repository import REPOSITORY, ROOT, differences, render, write


def main() -> int:
    """Render, or with --check say what differs and return 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", type=Path, default=ROOT / "checkpoints" / "nano")
    parser.add_argument("--target", default="cpu", choices=["cpu"])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail when the committed tree is out of date"
    )
    args = parser.parse_args()
    try:
        files = render(open_family(args.checkpoint), args.target)
        folder = REPOSITORY / args.target
        if not args.check:
            write(files, folder)
            print(f"{len(files)} files in {folder.relative_to(ROOT)}")
            return 0
        stale = differences(files, folder)
        if stale:
            raise ArtifactError(f"{folder.relative_to(ROOT)}: {'; '.join(stale)}; run: python export/repository.py")
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
