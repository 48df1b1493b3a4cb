"""Files of `torch.save` examined before they are unpickled: what they would take is bounded by what they have.

An archive can be compressed a thousandfold, and a pickle of fifty bytes can ask for gigabytes. Standard library only.
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import IO

from tritone.errors import CheckpointError

EXPANSION = 4
"""How many times larger than its file the content of a file may be; torch.save does not compress."""
SMALL = 16 << 20
"""Bytes that the content may have in any case."""
_ALLOCATING = {"bytearray"}
"""Names that weights_only accepts and that allocate as many bytes as a number in the file says."""


def allowance(path: Path) -> int:
    """Return the most bytes that the content of a file may have."""
    return EXPANSION * path.stat().st_size + SMALL


def check_torch_file(path: Path) -> None:
    """Raise CheckpointError for a file of torch.save, a zip archive or older, that would expand when it is read.

    A file of another kind, or one that is damaged, is left to the reader.
    """
    try:
        if not zipfile.is_zipfile(path):
            with open(path, "rb") as file:
                for _ in range(4):  # the older format begins with four pickles, the last of which is the content
                    check_pickle(file, path)
            return
        with zipfile.ZipFile(path) as archive:
            check_archive(archive, path)
            for name in archive.namelist():
                if name.endswith("data.pkl"):
                    with archive.open(name) as member:
                        check_pickle(member, path)
    except CheckpointError:
        raise
    except Exception:  # damaged: the reader says so
        return


def check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    """Raise CheckpointError unless the content of a zip archive is about as large as its file."""
    total = sum(info.file_size for info in archive.infolist())
    if total > allowance(path):
        raise CheckpointError(
            f"{path} has {path.stat().st_size} bytes that would expand to {total}; at most {EXPANSION} times the file "
            f"are allowed. torch.save does not compress: save the file again."
        )


def check_pickle(file: IO[bytes], path: Path) -> None:
    """Raise CheckpointError for a pickle that asks for memory with a number; the file is read up to the pickle's end.

    Raises what `pickletools` does for a damaged pickle.
    """
    for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if "PUT" in operation.name and isinstance(argument, int) and argument > count + 1:
            raise CheckpointError(f"{path} has a pickle whose memo begins at {argument}, which no pickle needs")
        if operation.name == "GLOBAL" and str(argument).split(" ")[-1] in _ALLOCATING:
            raise CheckpointError(
                f"{path} names {argument}, which is not needed for tensors and can take any amount of memory"
            )
