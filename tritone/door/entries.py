"""The models that clients may call: a family's ensemble, its stream and its services. Others are hidden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tritone.door.refusal import Refused
from tritone.stage import Family

Kind = Literal["whole", "stream", "service"]


@dataclass(frozen=True)
class Entry:
    """A model that clients may call.

    Args:
        name: the model's name in Triton.
        kind: "whole" answers with an utterance, "stream" chunk by chunk, "service" with something else than speech.
        sample_rate: samples per second of the speech it answers with; 0 for a service.
        parameters: what its config says beside Triton's own parameters.
    """

    name: str
    kind: Kind
    sample_rate: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)


class Entries(Mapping[str, Entry]):
    """The entries of a server by name."""

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self._entries = {entry.name: entry for entry in entries}

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, name: str) -> Entry:
        """Return the entry of that name; raise Refused naming those that exist."""
        if name not in self._entries:
            raise Refused("NOT_FOUND", f"model {name!r} is not served; the models are {', '.join(sorted(self))}")
        return self._entries[name]


def entries_of(family: Family, parameters: Mapping[str, str] | None = None) -> Entries:
    """Return the entries of a family's server.

    Args:
        parameters: what the configs of the two that speak say beside Triton's own parameters.
    """
    said = dict(parameters or {})
    rate = int(family.settings.get("sample_rate", 0))
    return Entries(
        (
            Entry(family.name, "whole", rate, said),
            Entry(f"{family.name}_stream", "stream", rate, said),
            *(Entry(host.name, "service") for host in family.services),
        )
    )
