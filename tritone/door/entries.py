"""The models that clients may call: a family's ensemble, its stream and its services. Others are hidden."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tritone.door.refusal import Refused
from tritone.errors import ConfigError
from tritone.stage import Family, Tensor

DATATYPES = {
    "bytes": "BYTES", "float32": "FP32", "float16": "FP16", "int32": "INT32", "int64": "INT64", "bool": "BOOL",
}  # fmt: skip
"""Triton's name of each datatype in requests."""
Kind = Literal["whole", "stream", "service"]


@dataclass(frozen=True)
class Entry:
    """A model that clients may call.

    Args:
        name: the model's name in Triton.
        kind: "whole" answers with an utterance, "stream" chunk by chunk, "service" with something else than speech.
        sample_rate: samples per second of the speech it answers with; 0 for a service.
        parameters: what its config says beside Triton's own parameters.
        inputs: Triton's datatype of each of its inputs by name.
        stream: name of the entry that answers the same requests chunk by chunk, or "".
    """

    name: str
    kind: Kind
    sample_rate: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    stream: str = ""


class Entries(Mapping[str, Entry]):
    """The entries of a server by name.

    Args:
        aliases: further names that clients may ask for, and the entries they stand for.
    """

    def __init__(self, entries: tuple[Entry, ...], aliases: Mapping[str, str] | None = None) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._aliases = dict(aliases or {})

    def __getitem__(self, name: str) -> Entry:
        return self._entries[self._aliases.get(name, name)]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, name: str) -> Entry:
        """Return the entry of that name; raise Refused naming those that exist."""
        if name not in self:
            names = sorted({*self._entries, *self._aliases})
            raise Refused("NOT_FOUND", f"model {name[:200]!r} is not served; the models are {', '.join(names)}")
        return self[name]

    def streaming(self, entry: Entry) -> Entry:
        """Return the entry that answers the requests of this one chunk by chunk; itself if there is none."""
        return self._entries.get(entry.stream, entry)


def entries_of(family: Family, parameters: Mapping[str, str] | None = None, aliases: Iterable[str] = ()) -> Entries:
    """Return the entries of a family's server.

    Args:
        parameters: what the configs of the two that speak say beside Triton's own parameters.
        aliases: further names of the family's model; raises ConfigError for one that another model has.
    """
    said = dict(parameters or {})
    rate = int(family.settings.get("sample_rate", 0))
    stream, inputs = f"{family.name}_stream", datatypes(family.request)
    entries = (
        Entry(family.name, "whole", rate, said, inputs, stream),
        Entry(stream, "stream", rate, said, inputs),
        *(Entry(host.name, "service", inputs=datatypes(host.inputs)) for host in family.services),
    )
    for name in aliases:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", name):
            raise ConfigError(f"--alias {name!r}: a model's name has letters, digits, _, . and - only")
        if name in [entry.name for entry in entries]:
            raise ConfigError(f"--alias {name}: the server has a model of that name already")
    return Entries(entries, dict.fromkeys(aliases, family.name))


def datatypes(tensors: Iterable[Tensor]) -> dict[str, str]:
    """Return Triton's datatype of each tensor, as requests name it."""
    return {tensor.name: DATATYPES[tensor.dtype] for tensor in tensors}
