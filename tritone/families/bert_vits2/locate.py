"""Finds the generator and the configuration of a folder: beside each other, or where published training puts them.

config.json                       G_<step>.pth              a folder made for serving
configs/config.json, config.json  models/G_<step>.pth       Data/<name> of versions 2.0 to 2.3
config.json                       logs/<name>/G_<step>.pth  earlier training folders
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tritone.checkpoint.notes import note
from tritone.errors import CheckpointError

PLACES = ("", "models", "logs", "logs/*", "Data/*", "Data/*/models")
"""Folders that may hold generators, below the one that is named; the first kind of place that has any is used."""
CONFIGS = ("config.json", "configs/config.json")
SUFFIXES = (".pth", ".safetensors")


def generator_file(folder: Path) -> Path:
    """Return the newest `G_<step>.pth` (or .safetensors) of the folder, or of the one place below it that has any.

    A name without a number is used where it is the only one. The choice among several is said in the log.

    Raises CheckpointError if there is none, if several places have some, or if none of several has a number.
    """
    for place in PLACES:
        homes = [home for home in (sorted(folder.glob(place)) if place else [folder]) if _generators(home)]
        if len(homes) > 1:
            named = ", ".join(str(home) for home in homes[:6])
            raise CheckpointError(f"{folder} has generators in {named}; give one of these folders")
        if homes:
            return _newest(homes[0])
    names = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
    raise CheckpointError(
        f"{folder} has no generator: a Bert-VITS2 checkpoint has a G_<step>.pth beside config.json or in models/; "
        f"found {names}"
    )


def config_file(folder: Path, generator: Path) -> Path:
    """Return the configuration of a generator: beside it, or in a folder above it down from the one that is named.

    The path in the named folder is returned where there is none.
    """
    return next((path for path in _configs(folder, generator) if path.is_file()), folder / CONFIGS[0])


def _configs(folder: Path, generator: Path) -> Iterator[Path]:
    """Yield the places of the configuration, the generator's own first if it lies below the folder."""
    homes = [folder]
    if folder in generator.parents:
        homes = [home for home in generator.parents if home == folder or folder in home.parents]
    for home in homes:
        yield from (home / name for name in CONFIGS)


def _generators(home: Path) -> list[Path]:
    """Return the generators in a folder, one for each stem."""
    found = sorted(path for suffix in SUFFIXES for path in home.glob(f"G_*{suffix}"))
    return list({path.stem: path for path in reversed(found)}.values())[::-1]


def _newest(home: Path) -> Path:
    found = _generators(home)
    steps = {int(match[1]): path for path in found if (match := re.fullmatch(r"G_(\d+)", path.stem))}
    if not steps and len(found) > 1:
        names = ", ".join(path.name for path in found[:6])
        raise CheckpointError(f"{home} has {names}, and none has a number to choose by; keep one of them")
    chosen = steps[max(steps)] if steps else found[0]
    if len(found) > 1:
        others = ", ".join(path.name for path in found if path != chosen)
        note(f"{chosen} is used, the newest by number; there are also {others}")
    return chosen
