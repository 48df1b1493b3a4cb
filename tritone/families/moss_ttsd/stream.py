"""A dialogue as a stream: rows of the language model, codes as they become complete, and sound window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np

from tritone.calls import never
from tritone.errors import TritoneError
from tritone.families.moss_ttsd.codec.windows import REFERENCE_CODES, STREAMING, WindowedDecoder
from tritone.families.moss_ttsd.config import MossConfig
from tritone.families.moss_ttsd.lm.config import AsteroidConfig
from tritone.families.moss_ttsd.lm.delay import codes_of, undelayed
from tritone.families.moss_ttsd.lm.generate import RowSession, is_speech
from tritone.families.moss_ttsd.request import Prepared
from tritone.lm.protocols import Rows, RowSource
from tritone.lm.sampling import seeded_draw
from tritone.lm.shared import AHEAD
from tritone.stage import Call


class NoSpeech(TritoneError):
    """The language model ended before its first code."""


def no_speech() -> NoSpeech:
    """Return the error that answers a request instead of silence."""
    return NoSpeech(
        "the language model ended before it had said anything; send another seed, or a longer text or reference"
    )


def synthesize(
    call: Call, llm: RowSource, prepared: Prepared, config: MossConfig, cancelled: Callable[[], bool] = never
) -> Iterator[np.ndarray]:
    """Yield waveform chunks `[samples]` float32, the first after 25 rows, which are two seconds of audio.

    Raises NoSpeech when the language model ends before its first code.
    """
    decoder = WindowedDecoder(call, config.codec, STREAMING, reference_context(prepared.reference))
    spoken = False
    rows = speech_rows(llm, prepared, config.lm, AHEAD, cancelled)
    for codes in speech_codes(rows, config.lm):
        chunk = decoder.push(codes)
        if len(chunk):
            spoken = True
            yield chunk
    if cancelled():
        return
    chunk = decoder.finish()
    if len(chunk):
        yield chunk
    elif not spoken:
        raise no_speech()


def speech_rows(
    llm: RowSource,
    prepared: Prepared,
    config: AsteroidConfig,
    ahead: int | None = AHEAD,
    cancelled: Callable[[], bool] = never,
) -> Rows:
    """Return the request's rows as they come; from now on they are decoded with those of all open requests.

    Args:
        ahead: the number of rows that may wait for their reader before the sequence pauses, None for no limit.
    """
    session = RowSession(prepared.rows, config, prepared.sampling, seeded_draw(prepared.seed), prepared.longest)
    return llm.rows(session, ahead, cancelled)


def speech_codes(rows: Rows, config: AsteroidConfig) -> Iterator[np.ndarray]:
    """Yield new complete codes `[channels, n]` as soon as there are any, and close `rows` at the end.

    A code is complete `config.delay` rows after its first channel.
    """
    kept: list[np.ndarray] = []
    yielded, spoken = 0, None
    with closing(rows):
        for row in rows:
            if spoken is None and not is_speech(row, config):
                spoken = len(kept)
            kept.append(row)
            complete = len(kept) - config.delay
            if spoken is not None:
                complete = min(complete, spoken)
            if complete > yielded:
                yield codes_of(undelayed(np.stack(kept[yielded : complete + config.delay])), config)
                yielded = complete


def reference_context(reference: np.ndarray) -> np.ndarray:
    """Return the part of the reference's codes that is decoded before each window: its first 20 seconds."""
    return reference[:, :REFERENCE_CODES]
