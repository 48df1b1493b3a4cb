"""The catalog of model families: every kind of checkpoint, and how its folder is recognised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from tritone.checkpoint.documents import read_json
from tritone.errors import CheckpointError, ConfigError, TritoneError
from tritone.stage import Family


class Kind(NamedTuple):
    """A kind of checkpoint.

    Args:
        name: what it is recognised by, for messages and lists.
        recognises: returns whether a folder holds one.
        module: its `family(model_dir)` describes a folder, and `published(name)` the published checkpoint.
        commands: modules of the commands for this kind of checkpoint alone, each with `main(arguments)`.
        options: arguments of `family` that choose among networks of torch.
    """

    name: str
    recognises: Callable[[Path], bool]
    module: str
    commands: Mapping[str, str] = {}
    options: tuple[str, ...] = ()


def has_file(folder: Path, name: str) -> bool:
    """Return whether the folder has a file of that name."""
    return (folder / name).is_file()


def has_config(folder: Path, keys: tuple[str, ...]) -> bool:
    """Return whether the folder's config.json is an object with all these keys."""
    try:
        content = read_json(folder / "config.json")
    except TritoneError:
        return False
    return isinstance(content, dict) and all(key in content for key in keys)


def has_generator(folder: Path) -> bool:
    """Return whether the folder has Bert-VITS2's configuration or, if that is missing or damaged, its generator.

    Published training code keeps generators in folders below it.
    """
    places = ("", "models/", "logs/", "logs/*/", "Data/*/", "Data/*/models/")
    generators = (folder.glob(f"{place}G_*{suffix}") for place in places for suffix in (".pth", ".safetensors"))
    return has_config(folder, ("model", "data")) or any(path for found in generators for path in found)


KINDS = [
    *(
        Kind(
            name,
            partial(has_file, name=name),
            "tritone.families.cosyvoice.family",
            {"voices": "tritone.families.cosyvoice.voices.command"},
        )
        for name in ("cosyvoice.yaml", "cosyvoice2.yaml", "cosyvoice3.yaml")
    ),
    Kind(
        "config.json with model and data, G_*.pth",
        has_generator,
        "tritone.families.bert_vits2.family",
        {"compress": "tritone.families.bert_vits2.compress"},
    ),
    Kind(
        "config.json with channels and speech_token_range",
        partial(has_config, keys=("channels", "speech_token_range")),
        "tritone.families.moss_ttsd.family",
        options=("dtype", "attention"),
    ),
]
"""Every kind of checkpoint; a folder holds exactly one."""


def find_kind(folder: Path) -> Kind:
    """Return the kind of checkpoint a folder holds.

    Raises:
        CheckpointError: the directory is missing, or it holds no known kind of checkpoint or more than one.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a directory; give the folder that holds the checkpoint's files")
    present = [kind for kind in KINDS if kind.recognises(folder)]
    if len(present) != 1:
        names = sorted(entry.name for entry in folder.iterdir())
        held = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") or "nothing"
        several = f"holds more than one checkpoint ({', '.join(kind.name for kind in present)})"
        known = ", ".join(kind.name for kind in KINDS)
        problem = several if present else "holds no known checkpoint"
        raise CheckpointError(f"{folder} {problem}; a checkpoint is recognised by one of {known}; found {held}")
    return present[0]


def open_family(model_dir: str | Path, dtype: str = "", attention: str = "", device: str = "cpu") -> Family:
    """Return the description of the checkpoint in `model_dir`; no weights are read.

    Args:
        dtype, attention: of the language model on torch, "" for those that are exported.
        device: where torch will run, for these choices.

    Raises:
        CheckpointError: as `find_kind`, or the settings describe no model that can exist.
        ConfigError: a file of settings is wrong, or this kind of checkpoint does not have a choice.
    """
    kind = find_kind(Path(model_dir))
    asked = {name: value for name, value in (("dtype", dtype), ("attention", attention)) if value}
    for name in sorted(asked.keys() - set(kind.options)):
        having = ", ".join(other.name for other in KINDS if name in other.options)
        raise ConfigError(
            f"{name} {asked[name]} was asked for, but {model_dir} is recognised by {kind.name}, whose networks have no "
            f"such choice; checkpoints recognised by {having} have it"
        )
    describe = import_module(kind.module).family
    try:
        family: Family = describe(Path(model_dir), **asked, **({"device": device} if asked else {}))
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{model_dir}: the settings in its files contradict each other or describe no model "
            f"({type(error).__name__}: {error}); restore the files that the checkpoint was published with"
        ) from error
    return family


def command_module(model_dir: str | Path, command: str) -> Any:
    """Return the module of a command that only some kinds of checkpoint have.

    Raises:
        CheckpointError: as `find_kind`, or the kind in `model_dir` does not have the command.
    """
    kind = find_kind(Path(model_dir))
    if command not in kind.commands:
        having = ", ".join(other.name for other in KINDS if command in other.commands)
        raise CheckpointError(
            f"{model_dir} is recognised by {kind.name}, which `{command}` does not support; "
            f"it supports checkpoints recognised by {having}"
        )
    return import_module(kind.commands[command])


def published_family(kind: Kind) -> Family:
    """Return the description of that kind's published checkpoints, for lists; it has no weights."""
    family: Family = import_module(kind.module).published(kind.name)
    return family
