"""List, add and remove the voices of a checkpoint.

    tritone voices CHECKPOINT list
    tritone voices CHECKPOINT add NAME --wav FILE [--text WORDS]
    tritone voices CHECKPOINT remove NAME

`tritone voices CHECKPOINT --help` lists the options for that kind of checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tritone.catalog import command_module
from tritone.errors import TritoneError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the voices command of the checkpoint's family; return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0].startswith("-"):
        print(__doc__.strip())
        return 0 if given and given[0] in ("-h", "--help") else 2
    try:
        module = command_module(Path(given[0]), "voices")
    except TritoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return int(module.main(given))
