"""The sequence in which text and speech tokens alternate: whose turn it is, and decoding one turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tritone.errors import TritoneError
from tritone.families.cosyvoice.config.common import LmConfig
from tritone.families.cosyvoice.lm.vocabulary import vocabulary
from tritone.lm.protocols import TokenSession
from tritone.lm.sampling import Draw, sample


class UnexpectedId(TritoneError):
    """The model sampled an id that has no meaning at its position, which only the published rules allow."""


class TurnPrompt(NamedTuple):
    """The prompt of a sequence in turns.

    Args:
        instruction: text ids given at once, before text and speech alternate (v3: up to `<|endofprompt|>`).
        text, speech: the transcript of the reference as text ids, and its speech tokens.
    """

    instruction: Sequence[int] = ()
    text: Sequence[int] = ()
    speech: Sequence[int] = ()


NO_PROMPT = TurnPrompt()


class Turns:
    """The merged ids that go into the sequence next: text and the prompt's speech, in turns of `mix_ratio`.

    `received` counts the ids of the target text so far.
    """

    def __init__(self, config: LmConfig, prompt: TurnPrompt) -> None:
        self._vocabulary, (self._texts, self._speeches) = vocabulary(config), config.mix_ratio
        self._fill_id = config.fill_id
        self._waiting = [self._vocabulary.sos, *self._vocabulary.text_ids(prompt.instruction)]
        self._text = self._vocabulary.text_ids(prompt.text)
        self._speech = list(prompt.speech)
        self._begun = False
        # A turn that the prompt's speech began is finished first.
        self._next_fill = self._speeches - len(self._speech) % self._speeches
        self.received = 0

    def add(self, piece: Sequence[int]) -> None:
        """Append more of the target text."""
        self._text += self._vocabulary.text_ids(piece)
        self.received += len(piece)

    def block(self, history: Sequence[int]) -> list[int] | None:
        """Return the ids after which speech can follow now; None when more text must arrive first."""
        while self._speech and len(self._text) >= self._texts:
            self._take_text()
            self._waiting += self._speech[: self._speeches]
            del self._speech[: self._speeches]
        if self._speech or (history and history[-1] != self._fill_id):
            return None
        if history or not self._begun:
            if len(self._text) < self._texts:
                return None
            if history:
                self._waiting = []
            self._take_text()
        ids, self._waiting = self._waiting, []
        return ids

    def fill(self, position: int) -> int | None:
        """Return the fill id if a turn of speech is complete at that position, or None."""
        return self._fill_id if position == self._next_fill else None

    def filled(self, position: int, ids: list[int]) -> None:
        """Begin the next turn; `position` counts the ids so far, `ids` went into the sequence last."""
        self._next_fill = position + self._speeches

    def rest(self) -> list[int]:
        """Return the ids that complete the text: all that wait, task_id, and speech of the prompt that had no turn."""
        return [*self._waiting, *self._text, self._vocabulary.task_id, *self._speech]

    def _take_text(self) -> None:
        self._waiting += self._text[: self._texts]
        del self._text[: self._texts]
        self._begun = True


class TurnDecoder:
    """Samples the speech of a sequence in turns; `history` has every id sampled so far, fill ids included."""

    def __init__(self, session: TokenSession, config: LmConfig, draw: Draw) -> None:
        self._session, self._config, self._draw = session, config, draw
        self._begun = False
        self.history: list[int] = []

    def turn(self, ids: list[int], turns: Turns, excluded: Sequence[int]) -> Iterator[int]:
        """Yield the codes of one turn, which follows `ids` and ends with a fill id."""
        while True:
            logits = self._after(ids)
            token = turns.fill(len(self.history))
            if token is None:
                token = self._sample(logits, excluded)
            self.history.append(token)
            if token == self._config.fill_id:
                turns.filled(len(self.history), ids)
                return
            if token >= self._config.speech_token_size:
                raise UnexpectedId(
                    f"the model sampled id {token} while text was arriving; only {self._config.fill_id} may"
                )
            yield token
            ids = [token]

    def rest(self, ids: list[int], excluded: Sequence[int]) -> Iterator[int]:
        """Yield the codes that follow `ids`, the end of the text, until the model stops."""
        while True:
            token = self._sample(self._after(ids), excluded)
            self.history.append(token)
            if token == self._config.end_id:
                return
            if token >= self._config.speech_token_size:
                raise UnexpectedId(
                    f"the model sampled id {token} where speech was to end; only {self._config.end_id} may"
                )
            yield token
            ids = [token]

    def _after(self, ids: list[int]) -> np.ndarray:
        extend = self._session.extend if self._begun else self._session.prefill
        self._begun = True
        return extend(ids)

    def _sample(self, logits: np.ndarray, excluded: Sequence[int]) -> int:
        logits = logits.copy()
        logits[list(excluded)] = -np.inf
        return sample(logits, self.history, self._config.sampling, self._draw)
