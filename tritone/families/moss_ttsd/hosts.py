"""The three host steps of the whole-utterance ensemble: prompt, language model and vocoder.

Each packs and unpacks tensors around a function of `whole`. The language model decodes its requests together; a request
gets the same codes with or without company.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritone.calls import Gone, each, stoppable
from tritone.errors import ConfigError, InvalidRequest, TritoneError
from tritone.families.moss_ttsd.codec.config import CodecConfig
from tritone.families.moss_ttsd.config import LONGEST, MossConfig
from tritone.families.moss_ttsd.lm.config import AsteroidConfig
from tritone.families.moss_ttsd.request import CONTROLS, REQUEST, Prepared, sampling_array, sampling_of
from tritone.families.moss_ttsd.text_tokenizer import DialogueTokenizer
from tritone.families.moss_ttsd.whole import Spoken, prompts, speech, waveforms
from tritone.lm.protocols import RowSource
from tritone.request.batch import answer
from tritone.stage import Arrays, Axis, Call, Host, Scaled, Tensor

Left = Sequence[Gone]
ROW = 1
CODES = Axis("spoken_codes", 1, 125, 16384)
DECODING = ("codec_decoder", "codec_vocoder")


def waveform(config: CodecConfig) -> Tensor:
    """Return the tensor of the response."""
    return Tensor("waveform", "float32", (ROW, Scaled(config.upsample, CODES)))


def hosts(config: MossConfig, tokenizer: DialogueTokenizer) -> tuple[Host, ...]:
    """Return the ensemble's host steps in order; each reads outputs of the earlier ones by name."""
    channels = config.lm.channels
    ids, entries = (0, config.lm.vocab_size - 1), (0, config.codec.codebook[0] - 1)
    rows = Tensor("prompt_rows", "int64", (ROW, Axis("prompt_rows_count", 1, 200, LONGEST), channels), allowed=ids)
    reference = Tensor(
        "reference_codes", "int64", (ROW, channels, Axis("reference_count", 0, 62, 1500)), allowed=entries
    )
    sampling = Tensor("sampling_used", "float32", (ROW, channels, 1 + len(CONTROLS)))
    longest = Tensor("rows_used", "int64", (ROW, 1), allowed=(0, LONGEST))
    controls = (sampling, longest, Tensor("seed_used", "int64", (ROW, 1), allowed=(0, (1 << 63) - 1)))
    codes = Tensor("codes", "int64", (ROW, channels, CODES), allowed=entries)

    def prompt(call: Call, _llm: RowSource, requests: list[Arrays], _left: Left = ()) -> list[Any]:
        prepared = prompts(call, requests, config, tokenizer)
        return [result if isinstance(result, TritoneError) else packed(result) for result in prepared]

    def llm(_call: Call, llm: RowSource, requests: list[Arrays], left: Left = ()) -> list[Any]:
        prompts = [answer(unpacked, request, config.lm) for request in requests]
        valid = [isinstance(prompt, Prepared) for prompt in prompts]
        gone = [cancelled for cancelled, good in zip(each(left, len(requests)), valid, strict=True) if good]
        found = iter(speech(llm, [prompt for prompt in prompts if isinstance(prompt, Prepared)], config.lm, gone))
        results = [next(found) if good else prompt for prompt, good in zip(prompts, valid, strict=True)]
        return [result if isinstance(result, TritoneError) else {"codes": result[None]} for result in results]

    def vocoder(call: Call, _llm: RowSource, requests: list[Arrays], left: Left = ()) -> list[Any]:
        def decode(request: Arrays, gone: Gone) -> Arrays:
            dialogue = Spoken(request["codes"][0], request["reference_codes"][0])
            return {"waveform": waveforms(stoppable(call, gone), [dialogue], config)[0][None]}

        pairs = zip(requests, each(left, len(requests)), strict=True)
        return [answer(decode, request, gone) for request, gone in pairs]

    return (
        Host("prompt", REQUEST, (rows, reference, *controls), prompt, ("codec_encoder",)),
        Host("llm", (rows, *controls), (codes,), llm, ("llm", "lm_step")),
        Host("vocoder", (codes, reference), (waveform(config.codec),), vocoder, DECODING, long=True),
    )


def packed(prepared: Prepared) -> Arrays:
    """Return a prompt and its controls as the outputs of the host step `prompt`."""
    return {
        "prompt_rows": prepared.rows[None],
        "reference_codes": prepared.reference[None],
        "sampling_used": sampling_array(prepared.sampling),
        "rows_used": np.array([[prepared.longest]], np.int64),
        "seed_used": np.array([[prepared.seed]], np.int64),
    }


def unpacked(request: Arrays, config: AsteroidConfig) -> Prepared:
    """Return the prompt and controls that the host step `llm` receives; the reference is not among its inputs.

    Raises InvalidRequest for ids that a channel does not have, and for controls out of their range.
    """
    if config.channels > 1 and request["prompt_rows"][0, :, 1:].max() >= config.speech_vocab_size:
        raise InvalidRequest("prompt_rows", f"has speech ids beyond the {config.speech_vocab_size} of a channel")
    try:
        sampling = sampling_of(request["sampling_used"][0], config)
    except (ConfigError, ValueError, OverflowError) as error:
        raise InvalidRequest("sampling_used", str(error)) from error
    return Prepared(
        request["prompt_rows"][0],
        np.zeros((config.channels, 0), np.int64),
        sampling,
        int(request["rows_used"][0, 0]),
        int(request["seed_used"][0, 0]),
    )
