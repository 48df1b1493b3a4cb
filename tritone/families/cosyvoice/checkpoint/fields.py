"""Configurations read from and written to official YAML, by a table of each field's key and each mapping's class.

One table serves reading and writing, so a written file reads back equal.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritone.checkpoint.sizes import shown
from tritone.errors import CheckpointError
from tritone.families.cosyvoice.checkpoint import hyperyaml
from tritone.families.cosyvoice.checkpoint.bounds import check_bounds
from tritone.families.cosyvoice.config.common import CosyVoiceConfig

if TYPE_CHECKING:
    from tritone.families.cosyvoice.versions import Version


@dataclass(frozen=True)
class Layout:
    """The YAML of one version.

    Args:
        keys: field -> YAML key, for the settings of the official file.
        extensions: field -> YAML key, for settings that the published classes lack; written only if not the default.
        classes: YAML key of a tagged mapping -> its tag, and the constants passed to that class beside the fields.
        decisive: keys of `classes` whose class must be the expected one.
        constants: YAML key -> the official file's value, written but not read.
        repeated: YAML key -> the field whose value it repeats.
        fixed: names of constants that must have their value in `classes` if a file has them; others would be networks
            that are not supported.
        frontends: the supported values of `text_frontend`.
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
    """Return the configuration in HyperPyYAML text; missing keys have the values of `default`, whose version it has.

    `path` is for error messages.
    """
    layout = default.version.layout
    try:
        document = hyperyaml.parse(text)
    except hyperyaml.HyperYamlError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except RecursionError:
        raise CheckpointError(f"{path} cannot be read: its references follow each other too often") from None
    _check_classes(default.version, document, path)
    values = {}
    for name, key in (*layout.keys.items(), *layout.extensions.items()):
        present, value = _get(document, key)
        if present:
            values[name] = value
    config: CosyVoiceConfig = _replace(default, values, path)
    check_bounds(config, path)
    if config.text_frontend not in layout.frontends:
        known = " or ".join(f'"{name}"' for name in layout.frontends)
        raise CheckpointError(f"{path}: text_frontend is {shown(config.text_frontend)}; supported here: {known}.")
    for key, name in layout.repeated.items():
        present, value = _get(document, key)
        if present and _frozen(value) != _field(config, name):
            raise CheckpointError(
                f"{path}: {key} is {shown(value)}, but {layout.keys[name]} is {_plain(_field(config, name))!r}; "
                f"they must be equal."
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


def _check_classes(version: Version, document: Mapping[str, Any], path: Path) -> None:
    layout = version.layout
    for key in layout.decisive:
        expected = layout.classes[key][0].rpartition(".")[2]
        _, node = _get(document, key)
        name = node.get("!new") if isinstance(node, dict) else None
        if str(name).rpartition(".")[2] != expected:
            named = f"has class {str(name)[:80]}" if name else "has no class"
            raise CheckpointError(
                f"{path}: {key} {named}; a CosyVoice {version.number} checkpoint has class {expected}."
            )
    for key, (_, constants) in layout.classes.items():
        for name in (name for name in constants if name in layout.fixed):
            present, value = _get(document, f"{key}.{name}")
            if present and value != constants[name]:
                raise CheckpointError(f"{path}: {key}.{name} is {shown(value)}; only {constants[name]!r} is supported.")


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
    """Return the nested dictionary, each mapping that has a class wrapped in its tag."""
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
    # A default of None stands for a number that is not set.
    expected = float if default is None else type(default)
    if expected is float and type(value) is int:
        value = float(value)
    if expected is float and isinstance(value, str):
        with contextlib.suppress(ValueError):  # YAML 1.1 reads 1e-06 (no dot) as a string
            value = float(value)
    if type(value) is not expected:
        raise CheckpointError(
            f"{path}: {item.name} is {shown(value)}; expected {expected.__name__.replace('tuple', 'list')}."
        )
    if isinstance(value, tuple) and not _alike(value, default, any_length="..." in str(item.type)):
        raise CheckpointError(f"{path}: {item.name} is {shown(_plain(value))}; expected a list like {_plain(default)}.")
    return value


def _alike(value: tuple[Any, ...], default: Any, any_length: bool) -> bool:
    """Return whether a list has entries of the same types as the default's, at least one, and as many if need be."""
    first = default[0]
    same = (
        all(type(entry) is type(first) for entry in value)
        and bool(value)
        and (any_length or len(value) == len(default))
    )
    return same and all(_alike(entry, first, True) for entry in value if isinstance(entry, tuple))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
