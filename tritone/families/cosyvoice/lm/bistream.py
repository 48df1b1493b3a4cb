"""Speech while its text is still arriving: text and speech tokens alternate in one sequence, `mix_ratio` of them each.

CosyVoice 2 (Du et al. 2024), section 2.2: five text tokens, then fifteen speech tokens, after which the model predicts
a fill id and gets the next five; once the text is complete, what is left of it, task_id, and speech to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from tritone.errors import TritoneError
from tritone.families.cosyvoice.config.common import LmConfig
from tritone.families.cosyvoice.lm.vocabulary import vocabulary
from tritone.lm.protocols import TokenSession
from tritone.lm.sampling import Draw, length_limits, sample


class UnexpectedId(TritoneError):
    """The published rules let the model sample an id that has no meaning where it stands."""


def bistream(
    session: TokenSession,
    text: Iterable[Sequence[int]],
    config: LmConfig,
    draw: Draw,
    *,
    instruction: Sequence[int] = (),
    prompt_text: Sequence[int] = (),
    prompt_speech: Sequence[int] = (),
    cancelled: Callable[[], bool] = lambda: False,
    limit: int | None = None,
    published: bool = False,
) -> Iterator[int]:
    """Speech codes as soon as enough text is there, until the model stops.

    The published loop runs on until the model stops by itself; this one ends at `max_token_text_ratio` codes per token
    of the target text, or at `limit`.

    Args:
        text: pieces of the target text as they arrive, each any number of text ids; waiting for one blocks.
        instruction: text ids given at once, before text and speech alternate (v3: up to `<|endofprompt|>`).
        prompt_text, prompt_speech: what the reference says, as text ids and as codes.
        limit: an upper bound on the number of codes.
        published: reproduce the published ids, with what seem to be slips: every piece is good for one turn only,
            however long it is; while text arrives only the first id behind the codes is excluded, so that others end
            the request (UnexpectedId); after a fill at the very end the last code is given once more; and prompt
            speech that had no text to alternate with is dropped.

    Raises InvalidRequest when the text is empty.
    """
    mixer = _Mixer(config, instruction, prompt_text, prompt_speech, published)
    history: list[int] = []
    count = 0

    def after(ids: list[int], logits: np.ndarray | None) -> np.ndarray:
        return session.prefill(ids) if logits is None else session.extend(ids)

    logits: np.ndarray | None = None
    for piece in text:
        mixer.add(piece)
        while not cancelled() and (ids := mixer.block(history)) is not None:
            while True:
                logits = after(ids, logits)
                token = mixer.fill(len(history))
                if token is None:
                    token = sample(_without(logits, mixer.excluded), history, config.sampling, draw)
                history.append(token)
                if token == config.fill_id:
                    mixer.filled(len(history), ids)
                    break
                if token >= config.speech_token_size:
                    raise UnexpectedId(
                        f"the model sampled id {token} while text was arriving; only {config.fill_id} may"
                    )
                yield token
                count += 1
                if cancelled() or count == limit:
                    return
                ids = [token]
            if published:
                break
        if cancelled():
            return
    if cancelled():
        return
    _, most = length_limits(mixer.received, config, limit)
    ids = mixer.rest()
    while count < most and not cancelled():
        logits = after(ids, logits)
        token = sample(_without(logits, mixer.excluded_at_end), history, config.sampling, draw)
        history.append(token)
        if token == config.end_id:
            return
        if token >= config.speech_token_size:
            raise UnexpectedId(f"the model sampled id {token} where speech was to end; only {config.end_id} may")
        yield token
        count += 1
        ids = [token]


class _Mixer:
    """What goes into the sequence next: merged ids of text and of prompt speech, in turns."""

    def __init__(
        self,
        config: LmConfig,
        instruction: Sequence[int],
        prompt_text: Sequence[int],
        prompt_speech: Sequence[int],
        published: bool,
    ) -> None:
        self._vocabulary, (self._texts, self._speeches) = vocabulary(config), config.mix_ratio
        self._fill_id, self._published = config.fill_id, published
        self._waiting = [self._vocabulary.sos, *self._vocabulary.text_ids(instruction)]
        self._text = self._vocabulary.text_ids(prompt_text)
        self._speech = list(prompt_speech)
        self._begun = False
        # A turn that the prompt's speech began is finished first.
        self._next_fill = self._speeches - len(self._speech) % self._speeches
        self.received = 0
        first = {config.speech_token_size}
        self.excluded = sorted(first if published else {*config.stop_ids} - {config.fill_id})
        self.excluded_at_end = sorted(() if published else {*config.stop_ids} - {config.end_id})

    def add(self, piece: Sequence[int]) -> None:
        """More of the target text."""
        self._text += self._vocabulary.text_ids(piece)
        self.received += len(piece)

    def block(self, history: Sequence[int]) -> list[int] | None:
        """What speech can follow now; None when more text must come first."""
        while self._speech and len(self._text) >= self._texts:
            self._turn()
            self._waiting += self._speech[: self._speeches]
            del self._speech[: self._speeches]
        if self._speech or (history and history[-1] != self._fill_id):
            return None
        if history or not self._begun:
            if len(self._text) < self._texts:
                return None
            if history:
                self._waiting = []
            self._turn()
        ids, self._waiting = self._waiting, []
        return ids

    def fill(self, position: int) -> int | None:
        """Return the fill id where a turn of speech is complete."""
        return self._fill_id if position == self._next_fill else None

    def filled(self, position: int, ids: list[int]) -> None:
        """Begin the next turn; `position` counts the ids so far, `ids` went into the sequence last."""
        self._next_fill = position + self._speeches
        if self._published:
            self._waiting = ids

    def rest(self) -> list[int]:
        """What completes the text: all that waits, task_id, and speech of the prompt that had no turn."""
        ids = [*self._waiting, *self._text, self._vocabulary.task_id]
        return ids if self._published else [*ids, *self._speech]

    def _turn(self) -> None:
        self._waiting += self._text[: self._texts]
        del self._text[: self._texts]
        self._begun = True


def _without(logits: np.ndarray, excluded: Sequence[int]) -> np.ndarray:
    """Return a copy with these ids impossible."""
    logits = logits.copy()
    logits[list(excluded)] = -np.inf
    return logits
