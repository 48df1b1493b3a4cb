"""Which model family a checkpoint directory holds: the one place where all of them are listed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tritone.errors import CheckpointError
from tritone.stage import Family

KINDS = {
    "cosyvoice.yaml": "tritone.families.cosyvoice.stages",
    "cosyvoice2.yaml": "tritone.families.cosyvoice.stages",
    "cosyvoice3.yaml": "tritone.families.cosyvoice.stages",
}
"""The file that tells a family's checkpoints apart, and the module whose `family(model_dir)` describes them."""


def open_family(model_dir: str | Path) -> Family:
    """The description of the checkpoint in `model_dir`; no weights are read.

    Raises:
        CheckpointError: there is no such directory, it holds no known kind of checkpoint, or more than one.
    """
    folder = Path(model_dir)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a directory; give the folder that holds the checkpoint's files")
    present = [name for name in KINDS if (folder / name).is_file()]
    if len(present) != 1:
        names = sorted(entry.name for entry in folder.iterdir())
        held = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") or "nothing"
        problem = f"holds more than one checkpoint ({', '.join(present)})" if present else "holds no known checkpoint"
        raise CheckpointError(f"{folder} {problem}; a checkpoint is told by one of {', '.join(KINDS)}; found {held}")
    family: Family = import_module(KINDS[present[0]]).family(folder)
    return family


def published_family(kind: str) -> Family:
    """The description of that kind's published checkpoints, for lists of what there is: it has no weights."""
    family: Family = import_module(KINDS[kind]).published(kind)
    return family
