"""Plausible bounds of the sizes in a checkpoint's settings, checked before anything of that size is made.

A wrong size is an error that names the setting, its value and the bounds; without one, a network of a billion channels
would be begun, or a division by zero would end the program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from tritone.errors import ConfigError, TritoneError


class Bound(NamedTuple):
    """The smallest and largest value of a size."""

    lo: int
    hi: int


WIDTH = Bound(1, 32768)
LAYERS = Bound(1, 256)
HEADS = Bound(1, 512)
VOCABULARY = Bound(1, 1 << 22)
POSITIONS = Bound(1, 1 << 22)
RATE = Bound(1000, 384000)
"""Samples a second."""
WINDOW = Bound(1, 16384)
"""Samples of a spectrum's window, and of its hop."""
KERNEL = Bound(1, 1024)
LIST = 64
"""Most entries of a list of sizes."""
LARGEST = 1e12
"""The largest magnitude of a number that is no size."""

TRANSFORMER: Mapping[str, Bound] = {
    "hidden_size": WIDTH,
    "intermediate_size": Bound(1, 262144),
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "head_dim": Bound(1, 4096),
    "vocab_size": VOCABULARY,
    "max_position_embeddings": POSITIONS,
    "type_vocab_size": Bound(0, 1024),
    "sliding_window": POSITIONS,
    "max_window_layers": Bound(0, 1024),
}
"""The keys that config.json files of transformers have for their sizes."""


def whole(value: Any, name: str, bound: Bound, kind: type[TritoneError] = ConfigError) -> int:
    """Return a size from settings; a TritoneError of the given kind unless it is a whole number within the bound."""
    if type(value) is not int or not bound.lo <= value <= bound.hi:
        raise kind(f"{name} is {shown(value)}; expected a whole number from {bound.lo} to {bound.hi}")
    return value


def finite(value: Any, name: str, kind: type[TritoneError] = ConfigError) -> float:
    """Return a number from settings; a TritoneError of the given kind unless it is finite and of a usual magnitude."""
    if type(value) not in (int, float) or not abs(value) <= LARGEST:
        raise kind(f"{name} is {shown(value)}; expected a finite number of at most {LARGEST:g}")
    return float(value)


def check_transformer(entries: Mapping[str, Any], name: str, kind: type[TritoneError] = ConfigError) -> None:
    """Raise a TritoneError of the given kind for a size in the config.json of a transformer that is out of bounds."""
    for key, bound in TRANSFORMER.items():
        if entries.get(key) is not None:
            whole(entries[key], f"{name}: {key}", bound, kind)
    hidden, heads = entries.get("hidden_size"), entries.get("num_attention_heads")
    if hidden and heads and not entries.get("head_dim") and hidden % heads:
        raise kind(f"{name}: hidden_size is {hidden}, which is no multiple of num_attention_heads, {heads}")
    groups = entries.get("num_key_value_heads")
    if heads and groups and heads % groups:
        raise kind(f"{name}: num_attention_heads is {heads}, which is no multiple of num_key_value_heads, {groups}")


def check_fields(
    settings: Any,
    bounds: Mapping[str, Bound],
    names: Mapping[str, str],
    name: str,
    kind: type[TritoneError],
    at: str = "",
) -> None:
    """Raise a TritoneError of the given kind for a number in a dataclass, or in one inside it, that is out of bounds.

    Args:
        bounds: of whole numbers and of those in lists, by field name; `WIDTH` for all others.
        names: dotted field -> its name in the file, for messages.
        name: what the message begins with, such as the file.
    """
    for item in dataclasses.fields(settings):
        value, path = getattr(settings, item.name), f"{at}{item.name}"
        if dataclasses.is_dataclass(value):
            check_fields(value, bounds, names, name, kind, f"{path}.")
        else:
            _check_value(value, bounds.get(item.name, WIDTH), f"{name}: {names.get(path, path)}", kind)


def shown(value: Any) -> str:
    """Return a value for a message, cut off if it is long."""
    text = (
        repr(value) if not isinstance(value, int) or abs(value) < 1 << 64 else f"a number of {value.bit_length()} bits"
    )
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_value(value: Any, bound: Bound, name: str, kind: type[TritoneError]) -> None:
    if isinstance(value, tuple):
        if len(value) > LIST:
            raise kind(f"{name} has {len(value)} entries; at most {LIST} are allowed")
        for entry in value:
            _check_value(entry, bound, name, kind)
    elif isinstance(value, float):
        finite(value, name, kind)
    elif isinstance(value, int) and not isinstance(value, bool):
        whole(value, name, bound, kind)
