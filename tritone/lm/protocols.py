"""The contracts of language models: what a server needs of any, and the two ways a family gets its tokens from one.

A `SpeechLm` turns a prompt into speech codes, one id a step. A `RowSource` decodes rows of several ids, which
the family draws. Both kinds are opened by the family's description (`Family.lm`), so a family receives its own kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from tritone.lm.rules import SpeechRules


class Llm(Protocol):
    """A language model as a server sees it."""

    def warm_up(self) -> None:
        """Load the model and decode a little; raise an error if it cannot be used."""
        ...

    def count(self, on_token: Callable[[], None]) -> None:
        """Call `on_token` for every token decoded from now on."""
        ...


class TokenSession(Protocol):
    """One sequence being decoded; logits are float32 `[head_size]` after the last position, bias included."""

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Return the logits after a prompt of merged ids; starts the sequence over."""
        ...

    def step(self, token: int) -> np.ndarray:
        """Return the logits after one more speech token."""
        ...

    def extend(self, ids: Sequence[int]) -> np.ndarray:
        """Return the logits after more merged ids, text or speech."""
        ...

    def close(self) -> None:
        """Free what the sequence holds; the session is not used afterwards."""
        ...


class SpeechLm(Llm, Protocol):
    """A language model that gives speech codes for a prompt; sequences may be decoded in several threads at once.

    `conditioning` is what a model takes besides ids: the speaker embedding of CosyVoice 1, None elsewhere.
    """

    def generate(
        self,
        prompt: Sequence[int],
        text_length: int,
        rules: SpeechRules,
        seed: int,
        cancelled: Callable[[], bool],
        conditioning: np.ndarray | None = None,
    ) -> Iterator[int]:
        """Yield speech codes until the model stops, the longest length is reached, or `cancelled()` is true.

        Args:
            prompt: merged ids of [sos, text, task_id, prompt speech].
            text_length: tokens of the target text alone, which both limits of the length count.
        """
        ...

    def session(self, conditioning: np.ndarray | None = None) -> TokenSession:
        """Return a new sequence to decode step by step; InvalidRequest if the engine samples elsewhere."""
        ...


class RowSession(Protocol):
    """The family's part of one sequence: its prompt, and each next row drawn from logits; `over` after the last."""

    prompt: Any
    over: bool

    def next(self, logits: Any) -> Any:
        """Return the next row."""
        ...


class Rows(Protocol):
    """The rows of one sequence as they come; close it if it is not read to the end."""

    def __iter__(self) -> Iterator[Any]: ...

    def __next__(self) -> Any: ...

    def close(self) -> None:
        """Leave the sequence; calling it again has no effect."""
        ...


class RowSource(Llm, Protocol):
    """A language model whose sequences share every step."""

    def rows(self, session: RowSession, ahead: int | None, cancelled: Callable[[], bool]) -> Rows:
        """Return the session's rows; they are decoded from now on, whether or not they are read.

        Args:
            ahead: rows that may wait to be read before the sequence pauses; None for no limit.
            cancelled: asked before each row; the rows end once it returns True.
        """
        ...
