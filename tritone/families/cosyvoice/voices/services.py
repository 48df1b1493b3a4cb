"""The networks that take a recording, each served on its own under the tensor names of published recipes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritone.calls import Gone
from tritone.families.cosyvoice.speak.request import REQUEST
from tritone.families.cosyvoice.voices.reference import speaker_embedding, speech_tokens
from tritone.lm.protocols import SpeechLm
from tritone.request.batch import answer
from tritone.request.fields import read_sound
from tritone.stage import Arrays, Axis, Call, Host, Tensor

INPUTS = tuple(tensor for tensor in REQUEST if tensor.name in ("reference_wav", "reference_wav_len"))
TOKENS = Tensor("prompt_speech_tokens", "int32", (1, Axis("heard_tokens", 1, 125, 1500)))
EMBEDDING = Tensor("prompt_spk_embedding", "float16", (1, 192))
"""In the published type; between the host steps of the ensemble it stays float32."""


def services() -> tuple[Host, ...]:
    """Return `speech_tokenizer` and `speaker_embedding`, which give a 16 kHz recording's speech tokens or embedding."""

    def tokenize(call: Call, _llm: SpeechLm, requests: list[Arrays], _left: Sequence[Gone] = ()) -> list[Any]:
        return [answer(tokens_of, call, request) for request in requests]

    def embed(call: Call, _llm: SpeechLm, requests: list[Arrays], _left: Sequence[Gone] = ()) -> list[Any]:
        return [answer(embedding_of, call, request) for request in requests]

    return (
        Host("speech_tokenizer", INPUTS, (TOKENS,), tokenize, ("speech_tokenizer",)),
        Host("speaker_embedding", INPUTS, (EMBEDDING,), embed, ("speaker_embedding",)),
    )


def tokens_of(call: Call, request: Arrays) -> Arrays:
    """Return the `prompt_speech_tokens` of one request."""
    return {TOKENS.name: speech_tokens(call, read_sound(request, "reference_wav")).astype(np.int32)[None]}


def embedding_of(call: Call, request: Arrays) -> Arrays:
    """Return the `prompt_spk_embedding` of one request."""
    return {EMBEDDING.name: speaker_embedding(call, read_sound(request, "reference_wav")).astype(np.float16)[None]}
