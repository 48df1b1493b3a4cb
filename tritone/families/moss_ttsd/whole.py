"""The order of calls for whole utterances: prompts, the language model's codes, and waveforms.

Every function takes a list of requests and returns a result for each in the same order, or the error of a request that
failed alone. The ensemble's host steps only pack and unpack tensors around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np

from tritone.calls import Gone, each
from tritone.errors import TritoneError
from tritone.families.moss_ttsd.codec.windows import STREAMING, decode
from tritone.families.moss_ttsd.config import MossConfig
from tritone.families.moss_ttsd.lm.config import AsteroidConfig
from tritone.families.moss_ttsd.request import Prepared, prepare
from tritone.families.moss_ttsd.stream import no_speech, reference_context, speech_codes, speech_rows
from tritone.families.moss_ttsd.text_tokenizer import DialogueTokenizer
from tritone.lm.protocols import Rows, RowSource
from tritone.request.batch import answer
from tritone.stage import Arrays, Call


class Spoken(NamedTuple):
    """One dialogue as codes `[channels, codes]`, and the codes of its reference recordings, in the same shape."""

    codes: np.ndarray
    reference: np.ndarray


def prompts(
    call: Call, requests: Sequence[Arrays], config: MossConfig, tokenizer: DialogueTokenizer
) -> list[Prepared | TritoneError]:
    """Return the prompt and controls of each request; its recordings are encoded by the codec."""
    return [answer(prepare, call, request, config, tokenizer) for request in requests]


def speech(
    llm: RowSource, prepared: Sequence[Prepared], config: AsteroidConfig, left: Sequence[Gone] = ()
) -> list[np.ndarray | TritoneError]:
    """Return all codes `[channels, codes]` of each request, at least one; the requests are decoded together.

    Args:
        left: for each request, tells whether its client has left, which ends its sequence.
    """

    def read(rows: Rows | TritoneError) -> np.ndarray:
        if isinstance(rows, TritoneError):
            raise rows
        codes = list(speech_codes(rows, config))
        if not codes:
            raise no_speech()
        return np.concatenate(codes, axis=1)

    with ExitStack() as stack:
        # The rows are all kept, so a sequence need not pause until its reader has caught up.
        pairs = zip(prepared, each(left, len(prepared)), strict=True)
        opened = [answer(speech_rows, llm, request, config, None, cancelled) for request, cancelled in pairs]
        for rows in opened:
            if not isinstance(rows, TritoneError):
                stack.callback(rows.close)
        return [answer(read, rows) for rows in opened]


def waveforms(call: Call, dialogues: Sequence[Spoken], config: MossConfig) -> list[np.ndarray]:
    """Return the waveform `[codes x upsample]` float32 of each dialogue, decoded in the windows of a stream."""
    return [
        decode(call, config.codec, codes, STREAMING, reference_context(reference)) for codes, reference in dialogues
    ]
