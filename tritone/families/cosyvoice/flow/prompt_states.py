"""The states of streams after their voices' prompts, kept for later streams of the same voices."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from tritone.errors import ConfigError
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.voices.cache import CAPACITY, Recent, content_hash
from tritone.stage import Arrays
from tritone.supervisor.memory import total

if TYPE_CHECKING:
    from tritone.families.cosyvoice.voices.voice import Voice

MEGABYTES = "TRITONE_PROMPT_CACHE_MB"
"""Environment variable with the memory that all states may take together, in megabytes; 0 keeps none."""
MOST = 4096
"""Megabytes that they may take by default, unless a tenth of the machine's or the container's memory is less."""


class FlowState(NamedTuple):
    """The state of a stream: that of the encoder and of each Euler step, the waiting tokens, the frames done."""

    encoder: Arrays
    solver: list[Arrays]
    tokens: list[int]
    frame: int

    def copied(self) -> FlowState:
        """Return an independent copy; it shares the arrays, which are never modified."""
        return FlowState(dict(self.encoder), list(self.solver), list(self.tokens), self.frame)

    @property
    def size(self) -> int:
        """The size of the arrays in bytes."""
        return sum(array.nbytes for arrays in (self.encoder, *self.solver) for array in arrays.values())


class PromptStates:
    """The states after the most recent prompts, for one set of networks and any number of threads.

    A state is found by the prompt itself, never by a name, and by all settings it was computed with.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._states: Recent[FlowState] = Recent(CAPACITY, memory_limit() if limit is None else limit, _size)

    def __len__(self) -> int:
        return len(self._states)

    @property
    def limit(self) -> float:
        """The most bytes that all states may take together."""
        return self._states.limit

    @property
    def total_bytes(self) -> int:
        """The bytes that all states take."""
        return self._states.total_bytes

    def get(self, voice: Voice, config: CosyVoiceConfig, hop: int, make: Callable[[], FlowState]) -> FlowState:
        """Return the state after the voice's prompt, computed at its first use; the caller may advance it."""
        # The noise is the published table's from its start; all other inputs are in the flow's settings.
        key = content_hash(voice.speech_token, voice.mel, voice.embedding, repr(config.flow), str(hop))
        return self._states.get(key, make).copied()


def memory_limit() -> int:
    """Return the bytes that all states may take; raise ConfigError if the environment's value is not a size."""
    value = os.environ.get(MEGABYTES, "").strip()
    if not value:
        try:
            return min(MOST << 20, total() // 10)
        except (OSError, ValueError):  # a machine that does not tell its memory
            return MOST << 20
    if not value.isascii() or not value.isdecimal():
        raise ConfigError(
            f"{MEGABYTES} is {value!r}; it is a whole number of megabytes, and 0 keeps no voice's state; "
            f"leave it unset for {MOST}, or a tenth of this machine's memory if that is less"
        )
    return int(value) << 20


def _size(state: FlowState) -> int:
    return state.size
