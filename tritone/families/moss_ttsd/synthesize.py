"""The order of steps: prompt, rows of the language model, codes, sound; whole or as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tritone.errors import TritoneError
from tritone.families.moss_ttsd.checkpoint import MossCheckpoint
from tritone.families.moss_ttsd.codec_windows import REFERENCE_CODES, STREAMING, WindowedDecoder
from tritone.families.moss_ttsd.delay import codes_of, undelayed
from tritone.families.moss_ttsd.generate import generate
from tritone.families.moss_ttsd.lm_config import AsteroidConfig
from tritone.families.moss_ttsd.request import Prepared
from tritone.lm.sampling import seeded_draw
from tritone.stage import Call, Llm


class NoSpeech(TritoneError):
    """The language model ended before it had said anything."""


def never() -> bool:
    """Of a request nobody takes back."""
    return False


def speech_codes(
    llm: Llm, requests: Sequence[Prepared], config: AsteroidConfig, cancelled: Callable[[], bool] = never
) -> Iterator[list[np.ndarray]]:
    """New complete codes `[channels, n]` of each request after each row; all requests are decoded together.

    A code is complete seven rows after its first channel. Each request gives what it gives alone.
    """
    session = llm()
    rows: list[list[np.ndarray]] = [[] for _ in requests]
    given, frames_ended = [0] * len(requests), [-1] * len(requests)
    nothing = np.zeros((config.channels, 0), np.int64)
    longest_prompt = max(len(one.rows) for one in requests)
    limits = [one.longest - len(one.rows) + config.delay for one in requests]
    try:
        steps = generate(
            session,
            [one.rows for one in requests],
            config,
            [one.sampling for one in requests],
            [seeded_draw(one.seed) for one in requests],
            longest_prompt - config.delay + max(limits),
        )
        for row, ended in steps:
            new = []
            for one in range(len(requests)):
                if ended[one] and frames_ended[one] < 0:
                    frames_ended[one] = len(rows[one])
                if len(rows[one]) < limits[one]:
                    rows[one].append(row[one])
                ready = max(0, len(rows[one]) - config.delay)
                if frames_ended[one] >= 0:
                    ready = min(ready, frames_ended[one])
                if ready > given[one]:
                    window = np.stack(rows[one][given[one] : ready + config.delay])
                    new.append(codes_of(undelayed(window), config))
                    given[one] = ready
                else:
                    new.append(nothing)
            yield new
            if cancelled():
                return
    finally:
        session.close()


def whole_codes(llm: Llm, requests: Sequence[Prepared], config: AsteroidConfig) -> list[np.ndarray]:
    """All codes `[channels, n]` of each request."""
    pieces: list[list[np.ndarray]] = [[] for _ in requests]
    for step in speech_codes(llm, requests, config):
        for one, codes in enumerate(step):
            pieces[one].append(codes)
    return [np.concatenate(found, axis=1) for found in pieces]


def heard_reference(reference: np.ndarray) -> np.ndarray:
    """The part of the reference that is decoded before each window: its first 20 seconds."""
    return reference[:, :REFERENCE_CODES]


def synthesize(
    call: Call, llm: Llm, prepared: Prepared, checkpoint: MossCheckpoint, cancelled: Callable[[], bool] = never
) -> Iterator[np.ndarray]:
    """Waveform pieces `[samples]` float32, the first after two seconds' worth of rows.

    Raises NoSpeech when the language model says nothing.
    """
    decoder = WindowedDecoder(call, checkpoint.codec, STREAMING, heard_reference(prepared.reference))
    spoken = False
    for (codes,) in speech_codes(llm, [prepared], checkpoint.lm, cancelled):
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
    """The error in the place of silence."""
    return NoSpeech(
        "the language model ended before it had said anything; send another seed, or a longer text or reference"
    )
