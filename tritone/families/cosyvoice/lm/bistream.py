"""Speech while its text is still arriving: text and speech tokens alternate in one sequence, `mix_ratio` of them each.

CosyVoice 2 (Du et al. 2024), section 2.2: five text tokens, then fifteen speech tokens, after which the model predicts
a fill id and receives the next five; once the text is complete, the rest of it, task_id, and speech to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from tritone.families.cosyvoice.config.common import LmConfig
from tritone.families.cosyvoice.lm.mixing import NO_PROMPT, TurnDecoder, TurnPrompt, Turns
from tritone.lm.guard import check_length, watched
from tritone.lm.protocols import TokenSession
from tritone.lm.sampling import Draw, length_limits


def bistream(
    session: TokenSession,
    text: Iterable[Sequence[int]],
    config: LmConfig,
    draw: Draw,
    prompt: TurnPrompt = NO_PROMPT,
    cancelled: Callable[[], bool] = lambda: False,
    limit: int | None = None,
) -> Iterator[int]:
    """Yield speech codes as soon as enough text has arrived, until the model stops.

    There are at most `max_token_text_ratio` codes per token of the target text, and at most `limit`.

    Args:
        text: pieces of the target text as they arrive, each any number of text ids; waiting for one blocks.

    Raises:
        InvalidRequest: the text is empty.
        Runaway: the speech loops, or it does not end within that length.
    """
    return watched(_speech(session, text, config, draw, prompt, cancelled, limit))


def _speech(
    session: TokenSession,
    text: Iterable[Sequence[int]],
    config: LmConfig,
    draw: Draw,
    prompt: TurnPrompt,
    cancelled: Callable[[], bool],
    limit: int | None,
) -> Iterator[int]:
    """Yield the codes of the turns, and of the rest once the text is complete."""
    turns, decoder, count = Turns(config, prompt), TurnDecoder(session, config, draw), 0
    excluded = sorted({*config.stop_ids} - {config.fill_id})
    for piece in text:
        turns.add(piece)
        while not cancelled() and (ids := turns.block(decoder.history)) is not None:
            for code in decoder.turn(ids, turns, excluded):
                yield code
                count += 1
                if cancelled() or count == limit:
                    return
        if cancelled():
            return
    if cancelled():
        return
    _, most = length_limits(turns.received, config, limit)
    rest = decoder.rest(turns.rest(), sorted({*config.stop_ids} - {config.end_id}))
    while not cancelled():
        check_length(count, most, turns.received)
        if count >= most or (last := next(rest, None)) is None:
            return
        yield last
        count += 1
