"""One voice: the inputs by which the networks are conditioned on a speaker."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


def _no_tokens() -> np.ndarray:
    return np.zeros(0, np.int64)


def _no_frames() -> np.ndarray:
    return np.zeros((0, 80), np.float32)


@dataclass(frozen=True, eq=False)
class Voice:
    """A speaker's `embedding`, float32 `[192]`, and optionally the prompt that every sentence continues.

    Args:
        prompt_text: text before the target text; may begin with special tokens (`<|name|><|endofprompt|>`).
        prompt_ids: the same as text ids, in files that store those instead, int64 `[text]`.
        speech_token: the prompt's speech tokens for the flow, int64 `[speech_tokens]`.
        llm_speech_token: the prompt's speech tokens for the language model; usually the same.
        mel: the prompt's mel, float32 `[frames, 80]`.
        llm_embedding: the embedding for the language model of v1, float32 `[192]`, or `[0]` for none; None means
            `embedding`.
        trained: the entry has an `embedding` of its own, as the speakers a model was fine-tuned on do.
    """

    name: str
    embedding: np.ndarray
    prompt_text: str | None = None
    prompt_ids: np.ndarray = field(default_factory=_no_tokens)
    speech_token: np.ndarray = field(default_factory=_no_tokens)
    llm_speech_token: np.ndarray = field(default_factory=_no_tokens)
    mel: np.ndarray = field(default_factory=_no_frames)
    llm_embedding: np.ndarray | None = None
    trained: bool = True
