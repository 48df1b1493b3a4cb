"""The published way to speak while text is arriving, number for number, with what seem to be slips.

Each piece of text allows one turn, regardless of its length. While text arrives only the first id behind the codes is
excluded, so other stop ids end the request. After a fill at the very end the last code is given once more, and prompt
speech that had no text to alternate with is dropped. The published loop has no bound on its length; this one has the
bound and the guard of `bistream`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tritone.families.cosyvoice.config.common import LmConfig
from tritone.families.cosyvoice.lm.mixing import NO_PROMPT, TurnDecoder, TurnPrompt, Turns
from tritone.lm.guard import check_length, watched
from tritone.lm.protocols import TokenSession
from tritone.lm.sampling import Draw, length_limits


class PublishedTurns(Turns):
    """Turns that give the last code again after a fill at the end, and drop prompt speech without text."""

    def filled(self, position: int, ids: list[int]) -> None:
        super().filled(position, ids)
        self._waiting = ids

    def rest(self) -> list[int]:
        return [*self._waiting, *self._text, self._vocabulary.task_id]


def published_bistream(
    session: TokenSession,
    text: Iterable[Sequence[int]],
    config: LmConfig,
    draw: Draw,
    prompt: TurnPrompt = NO_PROMPT,
) -> Iterator[int]:
    """Yield the published speech codes of text that arrives in pieces.

    Raises:
        UnexpectedId: the model samples a stop id that ends the published request.
        Runaway: the speech loops, or it does not end within the longest length of its text.
    """
    return watched(_speech(session, text, config, draw, prompt))


def _speech(
    session: TokenSession, text: Iterable[Sequence[int]], config: LmConfig, draw: Draw, prompt: TurnPrompt
) -> Iterator[int]:
    """Yield the codes of one turn for each piece, and of the rest once the text is complete."""
    turns, decoder, count = PublishedTurns(config, prompt), TurnDecoder(session, config, draw), 0
    for piece in text:
        turns.add(piece)
        ids = turns.block(decoder.history)
        if ids is not None:
            for code in decoder.turn(ids, turns, [config.speech_token_size]):
                yield code
                count += 1
    _, most = length_limits(turns.received, config)
    rest = decoder.rest(turns.rest(), [])
    while True:
        check_length(count, most, turns.received)
        if count >= most or (last := next(rest, None)) is None:
            return
        yield last
        count += 1
