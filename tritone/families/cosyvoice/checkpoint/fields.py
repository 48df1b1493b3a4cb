"""Configuration from and to official YAML, by a table of where each field stands and which class each mapping names.

One table serves reading and writing, so what is written reads back equal.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tritone.errors import CheckpointError
from tritone.families.cosyvoice.checkpoint import hyperyaml
from tritone.families.cosyvoice.config.common import CosyVoiceConfig


@dataclass(frozen=True)
class Layout:
    """The YAML of one version.

    Args:
        keys: field -> YAML key of the settings the official file has.
        extensions: the same of settings the published classes do not have; written only where they differ.
        classes: YAML key of a tagged mapping -> its tag, and the constants its class is given beside the fields.
        decisive: keys of `classes` whose class says which layout a file has.
        constants: YAML key -> what the official file says there, written but not read.
        repeated: YAML key -> the field it repeats.
        fixed: names of constants that, where a file gives them, must be as in `classes` for the networks to be those.
        frontends: the values of `text_frontend`.
    """

    keys: Mapping[str, str]
    extensions: Mapping[str, str]
    classes: Mapping[str, tuple[str, Mapping[str, Any]]]
    decisive: tuple[str, ...]
    constants: Mapping[str, Any] = field(default_factory=dict)
    repeated: Mapping[str, str] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    frontends: tuple[str, ...] = ("qwen", "phonemes")


def parse(default: CosyVoiceConfig, text: str, path: Path) -> CosyVoiceConfig:
    """Return the configuration in HyperPyYAML text of the version of `default`, which gives the value of absent keys.

    `path` is for errors.
    """
    layout = default.version.layout
    try:
        document = hyperyaml.parse(text)
    except (hyperyaml.HyperYamlError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    _check_classes(layout, document, path)
    values = {}
    for name, key in (*layout.keys.items(), *layout.extensions.items()):
        found, value = _get(document, key)
        if found:
            values[name] = value
    config: CosyVoiceConfig = _replace(default, values, path)
    if config.text_frontend not in layout.frontends:
        known = " or ".join(f'"{name}"' for name in layout.frontends)
        raise CheckpointError(f"{path}: text_frontend is {config.text_frontend!r}; it is {known}.")
    for key, name in layout.repeated.items():
        found, value = _get(document, key)
        if found and _frozen(value) != _field(config, name):
            raise CheckpointError(
                f"{path}: {key} is {value!r}, but {layout.keys[name]} is {_plain(_field(config, name))!r}; "
                f"in this layout they are the same."
            )
    return config


def render(default: CosyVoiceConfig, config: CosyVoiceConfig) -> str:
    """Return HyperPyYAML text with the official class names that `parse` reads back to an equal configuration."""
    layout = config.version.layout
    document: dict[str, Any] = {}
    for key, (_, constants) in layout.classes.items():
        for name, value in constants.items():
            _put(document, f"{key}.{name}", value)
    for name, key in (*layout.keys.items(), *layout.extensions.items()):
        value = _field(config, name)
        if name in layout.keys or value != _field(default, name):
            _put(document, key, _plain(value))
    for key, name in layout.repeated.items():
        _put(document, key, _plain(_field(config, name)))
    for key, value in layout.constants.items():
        _put(document, key, value)
    plain = {key: value for key, value in document.items() if not isinstance(value, dict)}
    return hyperyaml.render(plain | _tag(layout, document, ""))


def _check_classes(layout: Layout, document: Mapping[str, Any], path: Path) -> None:
    for key in layout.decisive:
        expected = layout.classes[key][0].rpartition(".")[2]
        _, node = _get(document, key)
        name = node.get("!new") if isinstance(node, dict) else None
        if str(name).rpartition(".")[2] != expected:
            found = f"class {name}" if name else "no class"
            raise CheckpointError(f"{path}: {key} has {found}; this layout is {expected}.")
    for key, (_, constants) in layout.classes.items():
        for name in (name for name in constants if name in layout.fixed):
            found_it, value = _get(document, f"{key}.{name}")
            if found_it and value != constants[name]:
                raise CheckpointError(f"{path}: {key}.{name} is {value!r}; this layout is {constants[name]!r}.")


def _get(document: Mapping[str, Any], key: str) -> tuple[bool, Any]:
    value: Any = document
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value


def _put(document: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for part in parents:
        document = document.setdefault(part, {})
    document[last] = value


def _tag(layout: Layout, node: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return the nested dict with each mapping that has a class wrapped in its tag."""
    result: dict[str, Any] = {}
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            value = _tag(layout, value, f"{key}.")
            value = hyperyaml.Tagged(layout.classes[key][0], value) if key in layout.classes else value
        result[name] = value
    return result


def _field(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = getattr(config, part)
    return config


def _replace(config: Any, values: Mapping[str, Any], path: Path) -> Any:
    """Return the dataclass with the dotted fields replaced, each checked against the type of its default."""
    changes: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        current = getattr(config, item.name)
        if item.name == "version":
            continue
        if dataclasses.is_dataclass(current):
            inner = {k.partition(".")[2]: v for k, v in values.items() if k.partition(".")[0] == item.name}
            changes[item.name] = _replace(current, inner, path)
        elif item.name in values:
            changes[item.name] = _typed(values[item.name], current, item, path)
    return dataclasses.replace(config, **changes)


def _typed(value: Any, default: Any, item: dataclasses.Field[Any], path: Path) -> Any:
    value = _frozen(value)
    if value is None and "None" in str(item.type):
        return None
    # A default of None says nothing about the type of what may stand in its place: a number.
    expected = float if default is None else type(default)
    if expected is float and type(value) is int:
        value = float(value)
    if expected is float and isinstance(value, str):
        with contextlib.suppress(ValueError):  # YAML 1.1 reads 1e-06 (no dot) as a string
            value = float(value)
    if type(value) is not expected:
        raise CheckpointError(
            f"{path}: {item.name} is {value!r}; expected {expected.__name__.replace('tuple', 'list')}."
        )
    return value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
