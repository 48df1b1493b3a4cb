"""Text, JSON and YAML of foreign folders, read within bounds: bytes, depth, and values counted as often as they occur.

Parsers expand what they read: a short file can stand for gigabytes, or nest deeper than they can follow. Every problem
is an error that names the file, what was found and what is allowed. Standard library and PyYAML alone.
"""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from tritone.errors import ConfigError, TritoneError

SETTINGS = 4 << 20
"""Most bytes of a JSON file of settings."""
VOCABULARY = 64 << 20
"""Most bytes of a file of a tokenizer, of merges, or of a list of utterances."""
YAML_BYTES = 256 << 10
"""Most bytes of a YAML file, which takes its parser a hundred times longer to read than JSON."""
DEPTH = 64
"""Most lists and objects inside each other."""
NODES = 5_000_000
"""Most values of a JSON file."""
YAML_NODES = 20_000
"""Most values of a YAML file, those behind an alias or reference counted each time that it is used."""
SCALAR = 10_000
"""Most characters of one value in YAML."""


def read_text(path: Path, limit: int = SETTINGS, kind: type[TritoneError] = ConfigError) -> str:
    """Return the UTF-8 text of a file, without a byte-order mark.

    Raises:
        TritoneError: of the given kind; the file is missing, longer than `limit` bytes, or not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise kind(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > limit:
        raise kind(f"{path} has {path.stat().st_size} bytes; such a file may have at most {limit}")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        raise kind(f"{path} is not text in UTF-8: {_undecoded(error)}") from error


def _undecoded(error: UnicodeDecodeError) -> str:
    """Return the place of bytes that are not UTF-8, and what to do about them."""
    data, at = error.object, error.start
    utf_16 = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    found = f"byte 0x{data[at]:02x} ({error.reason})" + (", the byte-order mark of UTF-16" if utf_16 else "")
    remedy = f"iconv -f {'UTF-16' if utf_16 else 'GB18030'} -t UTF-8 FILE > NEW"
    which = "" if utf_16 else ", where GB18030 is the encoding that it has"
    return f"line {data.count(10, 0, at) + 1}: {found}; save it as UTF-8, for example with: {remedy}{which}"


def check_size(path: Path, limit: int = VOCABULARY, kind: type[TritoneError] = ConfigError) -> None:
    """Raise a TritoneError of the given kind if a file that another library reads is longer than `limit` bytes."""
    if path.is_file() and path.stat().st_size > limit:
        raise kind(f"{path} has {path.stat().st_size} bytes; such a file may have at most {limit}")


def read_json(path: Path, limit: int = SETTINGS, kind: type[TritoneError] = ConfigError) -> Any:
    """Return the value in a JSON file; errors as `read_text` and `parse_json`."""
    return parse_json(read_text(path, limit, kind), str(path), kind)


def read_object(path: Path, limit: int = SETTINGS, kind: type[TritoneError] = ConfigError) -> dict[str, Any]:
    """Return the object in a JSON file; errors as `read_json`, also for another value than an object."""
    value = read_json(path, limit, kind)
    if not isinstance(value, dict):
        raise kind(f"{path} holds a {type(value).__name__}, not an object")
    return value


def parse_json(text: str, name: str, kind: type[TritoneError] = ConfigError, strict: bool = False) -> Any:
    """Return the value in a JSON text.

    Args:
        strict: refuse keys that occur twice in an object, of which the last would count, and NaN and Infinity.

    Raises:
        TritoneError: of the given kind, beginning with `name`; the text is not JSON, nests deeper than `DEPTH`, or has
            more than `NODES` values.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_unique if strict else None, parse_constant=_no_number if strict else None
        )
    except RecursionError:
        raise kind(f"{name} nests lists or objects too deeply; at most {DEPTH} may be inside each other") from None
    except ValueError as error:
        raise kind(f"{name} is not valid JSON: {error}") from error
    level, depth, nodes = [value], 0, 1
    while level:
        level = [item for held in level if isinstance(held, dict | list) for item in _items(held)]
        depth, nodes = depth + bool(level), nodes + len(level)
        if depth > DEPTH:
            raise kind(f"{name} nests lists or objects too deeply; at most {DEPTH} may be inside each other")
        if nodes > NODES:
            raise kind(f"{name} has more than {NODES} values, which are too many")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} occurs twice in one object")
        found[key] = value
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not a number in JSON")


def parse_yaml(text: str, name: str, loader: Any = None, kind: type[TritoneError] = ConfigError) -> Any:
    """Return the value in a YAML text.

    Raises:
        TritoneError: of the given kind, beginning with `name`; the text is not YAML that the loader reads, nests deeper
            than `DEPTH`, or has more than `YAML_NODES` values, each alias counted as what it stands for.

    Args:
        loader: a subclass of `yaml.SafeLoader` (default: that class itself).
    """
    import yaml

    try:
        reader = (loader or yaml.SafeLoader)(text)
        root = reader.get_single_node()
        if root is None:
            return None
        _check_nodes(root, name, kind)
        return reader.construct_document(root)
    except RecursionError:
        raise kind(f"{name} nests lists or mappings too deeply; at most {DEPTH} may be inside each other") from None
    except TritoneError:
        raise
    except Exception as error:  # the parser raises many types on wrong dates, numbers and bytes
        raise kind(f"{name} is not valid YAML: {' '.join(str(error).split()) or type(error).__name__}") from error


def _items(held: dict[str, Any] | list[Any]) -> Any:
    return held.values() if isinstance(held, dict) else held


def _check_nodes(root: Any, name: str, kind: type[TritoneError]) -> None:
    """Raise unless the tree below a YAML node is small, with a node under an alias counted at each of its uses."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Any, depth: int) -> int:
        if id(node) in open_nodes:
            raise kind(f"{name} has an alias inside the value that it stands for")
        if depth > DEPTH:
            raise kind(f"{name} nests lists or mappings too deeply; at most {DEPTH} may be inside each other")
        if isinstance(node.value, str):
            if len(node.value) > SCALAR:
                raise kind(f"{name} has a value of {len(node.value)} characters; at most {SCALAR} are allowed")
            return 1
        if id(node) not in sizes:
            open_nodes.add(id(node))
            total = 1
            for child in node.value:
                total += sum(size(part, depth + 1) for part in (child if isinstance(child, tuple) else (child,)))
                if total > YAML_NODES:
                    raise kind(f"{name} stands for more than {YAML_NODES} values, with each alias written out")
            sizes[id(node)] = total
            open_nodes.discard(id(node))
        return sizes[id(node)]

    size(root, 0)
