"""Render the committed Triton model repositories.

    python export/repository.py [--target cpu|gpu] [--check] [checkpoint]

The trees in `model_repository/<target>/` are committed; `--check` fails if one differs from its rendering.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tritone.catalog import open_family
from tritone.errors import ArtifactError, TritoneError
from tritone.server.repository import REPOSITORY, ROOT, TARGETS, differences, render, write

COMMITTED = [name for name, target in TARGETS.items() if target.committed]


def main() -> int:
    """Render the repositories; with --check, only print the differences. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", type=Path, default=ROOT / "checkpoints" / "nano")
    parser.add_argument("--target", choices=COMMITTED, help="only this one (default: all of them)")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail when the committed tree is out of date"
    )
    args = parser.parse_args()
    try:
        family = open_family(args.checkpoint)
        stale = []
        for target in [args.target] if args.target else COMMITTED:
            files, folder = render(family, target), REPOSITORY / target
            if args.check:
                stale += [f"{folder.relative_to(ROOT)}/{line}" for line in differences(files, folder)]
            else:
                write(files, folder)
                print(f"{len(files)} files in {folder.relative_to(ROOT)}")
        if stale:
            raise ArtifactError(f"{'; '.join(stale)}; run: python export/repository.py")
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
