"""The order of steps: prompt, rows of the language model, codes, sound; whole or as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing

import numpy as np

from tritone.errors import TritoneError
from tritone.families.moss_ttsd.checkpoint import MossCheckpoint
from tritone.families.moss_ttsd.codec.windows import REFERENCE_CODES, STREAMING, WindowedDecoder
from tritone.families.moss_ttsd.lm.config import AsteroidConfig
from tritone.families.moss_ttsd.lm.delay import codes_of, undelayed
from tritone.families.moss_ttsd.lm.generate import Utterance, speaks
from tritone.families.moss_ttsd.request import Prepared
from tritone.lm.sampling import seeded_draw
from tritone.lm.shared import AHEAD, Listener
from tritone.request.batch import answer
from tritone.stage import Call, Llm


class NoSpeech(TritoneError):
    """The language model ended before it had said anything."""


def never() -> bool:
    """Of a request nobody takes back."""
    return False


def speech_rows(
    llm: Llm,
    request: Prepared,
    config: AsteroidConfig,
    ahead: int | None = AHEAD,
    cancelled: Callable[[], bool] = never,
) -> Listener:
    """Return the request's rows as they come, decoded from now on with those of all other requests there are."""
    draw = seeded_draw(request.seed)
    utterance = Utterance(request.rows, config, request.sampling, draw, request.longest)
    listener: Listener = llm(utterance, ahead, cancelled)
    return listener


def speech_codes(heard: Listener, config: AsteroidConfig) -> Iterator[np.ndarray]:
    """Yield new complete codes `[channels, n]`, as soon as there are any; closes the listener.

    A code is complete seven rows after its first channel.
    """
    rows: list[np.ndarray] = []
    given, spoken = 0, None
    with closing(heard):
        for row in heard:
            if spoken is None and not speaks(row, config):
                spoken = len(rows)
            rows.append(row)
            ready = len(rows) - config.delay
            if spoken is not None:
                ready = min(ready, spoken)
            if ready > given:
                yield codes_of(undelayed(np.stack(rows[given : ready + config.delay])), config)
                given = ready


def whole_codes(llm: Llm, requests: Sequence[Prepared], config: AsteroidConfig) -> list[np.ndarray | TritoneError]:
    """Return all codes `[channels, n]` of each request, or what kept it alone from speaking; all enter together."""
    nothing = np.zeros((config.channels, 0), np.int64)

    def read(heard: Listener | TritoneError) -> np.ndarray:
        if isinstance(heard, TritoneError):
            raise heard
        return np.concatenate([nothing, *speech_codes(heard, config)], axis=1)

    with ExitStack() as stack:
        # What is kept anyway need not wait for its reader.
        opened = [answer(speech_rows, llm, one, config, None) for one in requests]
        for one in opened:
            if isinstance(one, Listener):
                stack.callback(one.close)
        return [answer(read, one) for one in opened]


def heard_reference(reference: np.ndarray) -> np.ndarray:
    """Return the part of the reference that is decoded before each window: its first 20 seconds."""
    return reference[:, :REFERENCE_CODES]


def synthesize(
    call: Call, llm: Llm, prepared: Prepared, checkpoint: MossCheckpoint, cancelled: Callable[[], bool] = never
) -> Iterator[np.ndarray]:
    """Yield waveform pieces `[samples]` float32, the first after two seconds' worth of rows.

    Raises NoSpeech when the language model says nothing.
    """
    decoder = WindowedDecoder(call, checkpoint.codec, STREAMING, heard_reference(prepared.reference))
    spoken = False
    heard = speech_rows(llm, prepared, checkpoint.lm, AHEAD, cancelled)
    for codes in speech_codes(heard, checkpoint.lm):
        piece = decoder.push(codes)
        if len(piece):
            spoken = True
            yield piece
    if cancelled():
        return
    piece = decoder.finish()
    if len(piece):
        yield piece
    elif not spoken:
        raise nothing_said()


def nothing_said() -> NoSpeech:
    """Return the error in the place of silence."""
    return NoSpeech(
        "the language model ended before it had said anything; send another seed, or a longer text or reference"
    )
