"""The three steps of the whole-utterance ensemble: prompt, language model, decoder.

The language model decodes its requests together; each gives what it gives alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tritone.errors import TritoneError
from tritone.families.moss_ttsd.checkpoint import MossCheckpoint
from tritone.families.moss_ttsd.codec.config import CodecConfig
from tritone.families.moss_ttsd.codec.windows import STREAMING, decode
from tritone.families.moss_ttsd.request import CONTROLS, REQUEST, Prepared, prepare, sampling_array, sampling_of
from tritone.families.moss_ttsd.text_tokenizer import DialogueTokenizer
from tritone.families.moss_ttsd.whole import NoSpeech, heard_reference, nothing_said, whole_codes
from tritone.request.batch import answer
from tritone.stage import Arrays, Axis, Call, Host, Llm, Scaled, Tensor

ROW = 1
CODES = Axis("spoken_codes", 1, 125, 16384)


def waveform(config: CodecConfig) -> Tensor:
    """What a request is answered with."""
    return Tensor("waveform", "float32", (ROW, Scaled(config.upsample, CODES)))


def hosts(checkpoint: MossCheckpoint, tokenizer: DialogueTokenizer) -> tuple[Host, ...]:
    """Return the ensemble's steps in order; each reads outputs of the earlier ones by name."""
    config = checkpoint.lm
    rows = Tensor("prompt_rows", "int64", (ROW, Axis("prompt_rows_count", 1, 200, 4096), config.channels))
    reference = Tensor("reference_codes", "int64", (ROW, config.channels, Axis("reference_count", 0, 62, 750)))
    sampling = Tensor("sampling_used", "float32", (ROW, config.channels, 1 + len(CONTROLS)))
    controls = (sampling, Tensor("rows_used", "int64", (ROW, 1)), Tensor("seed_used", "int64", (ROW, 1)))
    codes = Tensor("codes", "int64", (ROW, config.channels, CODES))

    def prompt(call: Call, _llm: Llm, requests: list[Arrays]) -> list[Any]:
        return [answer(_prompt, call, one, checkpoint, tokenizer) for one in requests]

    def llm(_call: Call, llm: Llm, requests: list[Arrays]) -> list[Any]:
        prepared = [
            Prepared(
                one["prompt_rows"][0],
                np.zeros((config.channels, 0), np.int64),
                sampling_of(one["sampling_used"][0], config),
                int(one["rows_used"][0, 0]),
                int(one["seed_used"][0, 0]),
            )
            for one in requests
        ]
        found = whole_codes(llm, prepared, config)
        return [one if isinstance(one, TritoneError) else _spoken(one) for one in found]

    def vocoder(call: Call, _llm: Llm, requests: list[Arrays]) -> list[Any]:
        return [
            {
                "waveform": decode(
                    call, checkpoint.codec, one["codes"][0], STREAMING, heard_reference(one["reference_codes"][0])
                )[None]
            }
            for one in requests
        ]

    decoding = ("codec_decoder", "codec_vocoder")
    return (
        Host("prompt", REQUEST, (rows, reference, *controls), prompt, ("codec_encoder",)),
        Host("llm", (rows, *controls), (codes,), llm, ("llm", "lm_step")),
        Host("vocoder", (codes, reference), (waveform(checkpoint.codec),), vocoder, decoding),
    )


def _spoken(codes: np.ndarray) -> Arrays | NoSpeech:
    return {"codes": codes[None]} if codes.shape[1] else nothing_said()


def _prompt(call: Call, request: Arrays, checkpoint: MossCheckpoint, tokenizer: DialogueTokenizer) -> Arrays:
    prepared = prepare(call, request, checkpoint, tokenizer)
    return {
        "prompt_rows": prepared.rows[None],
        "reference_codes": prepared.reference[None],
        "sampling_used": sampling_array(prepared.sampling),
        "rows_used": np.array([[prepared.longest]], np.int64),
        "seed_used": np.array([[prepared.seed]], np.int64),
    }
