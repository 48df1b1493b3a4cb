"""A language model on an engine that gives logits: ids are drawn here, in NumPy, the same for every such engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tritone.lm.protocols import TokenSession
from tritone.lm.rules import SpeechRules
from tritone.lm.sampling import seeded_draw, tokens

Sessions = Callable[[np.ndarray | None], TokenSession]
"""`sessions(conditioning) -> session`: opens a sequence on the engine."""


class LogitsLm:
    """A `SpeechLm` of the sessions of an engine.

    Args:
        sessions: opens a sequence; may be called in several threads.
        warm_up_ids: the prompt that warms the engine up; none for a model whose steps are stages, which their own
            engine warms up.
    """

    def __init__(self, sessions: Sessions, warm_up_ids: Sequence[int] = (0, 1, 2)) -> None:
        self.sessions = sessions
        self._warm_up_ids = list(warm_up_ids)
        self._on_token: Callable[[], None] = lambda: None

    def warm_up(self) -> None:
        """Load the model and decode one step."""
        if self._warm_up_ids:
            session = self.sessions(None)
            try:
                session.prefill(self._warm_up_ids)
            finally:
                session.close()

    def count(self, on_token: Callable[[], None]) -> None:
        """Call `on_token` for every token that goes into a sequence after its prompt."""
        self._on_token = on_token

    def session(self, conditioning: np.ndarray | None = None) -> TokenSession:
        """Return a new sequence to decode step by step."""
        return CountedSession(self.sessions(conditioning), self._on_token)

    def generate(
        self,
        prompt: Sequence[int],
        text_length: int,
        rules: SpeechRules,
        seed: int,
        cancelled: Callable[[], bool],
        conditioning: np.ndarray | None = None,
    ) -> Iterator[int]:
        """Yield speech codes until the model stops, the longest length is reached, or `cancelled()` is true."""
        session = self.session(conditioning)
        try:
            yield from tokens(session, prompt, text_length, rules, seeded_draw(seed), cancelled)
        finally:
            session.close()


class CountedSession:
    """A session that reports every token."""

    def __init__(self, session: TokenSession, on_token: Callable[[], None]) -> None:
        self._session, self._on_token = session, on_token

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Return the logits after the prompt."""
        return self._session.prefill(ids)

    def step(self, token: int) -> np.ndarray:
        """Return the logits after one more token."""
        self._on_token()
        return self._session.step(token)

    def extend(self, ids: Sequence[int]) -> np.ndarray:
        """Return the logits after more ids in the middle of a sequence."""
        self._on_token()
        return self._session.extend(ids)

    def close(self) -> None:
        """Free what the session holds."""
        self._session.close()
