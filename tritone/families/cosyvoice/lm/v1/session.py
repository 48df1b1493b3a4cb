"""A language model whose steps are stages: decoding sessions on every engine that runs stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tritone.errors import InvalidRequest
from tritone.families.cosyvoice.config.v1 import TransformerLmConfig
from tritone.families.cosyvoice.flow.cfm import initial_state, next_state
from tritone.families.cosyvoice.lm.v1.stages import PAST, TEXT
from tritone.families.cosyvoice.lm.vocabulary import Vocabulary
from tritone.lm.logits import LogitsLm
from tritone.stage import Arrays, Call, Stage


class StageSession:
    """One sequence; logits are float32 `[head_size]` after the last position. One thread at a time.

    Args:
        call: runs `llm_text_encoder` and `llm_step`.
        stages: these two, by name.
        embedding: the speaker `[1, 192]`, or `[0, 192]` for none.
    """

    def __init__(
        self, call: Call, stages: Mapping[str, Stage], config: TransformerLmConfig, embedding: np.ndarray
    ) -> None:
        self._call, self._stages, self._config, self._embedding = call, stages, config, embedding
        self._vocabulary = Vocabulary(config.head_size)
        self._state: Arrays = {}

    def __enter__(self) -> StageSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def length(self) -> int:
        """Positions decoded so far."""
        return int(self._state["kv_state"].shape[3]) if self._state else 0

    def prefill(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return logits after a prompt [sos, text, task_id, speech] of merged ids; starts the sequence over."""
        ids = np.asarray(ids, np.int64)
        first = self._vocabulary
        starts = np.flatnonzero(ids == first.task_id)
        if len(starts) != 1 or ids[0] != first.sos or not (ids[1 : starts[0]] >= first.text).all():
            raise InvalidRequest("prompt", "is not [sos, text, task_id, speech] in ids of the merged vocabulary")
        text = ids[1 : starts[0]] - first.text
        if not 0 < len(text) <= TEXT.hi:
            raise InvalidRequest("prompt", f"has {len(text)} text tokens; the language model takes 1 to {TEXT.hi}")
        encoded = self._call("llm_text_encoder", text_token=text[None], embedding=self._embedding)
        self._state = initial_state(self._stages["llm_step"])
        return self._append(encoded["prefix"], ids[starts[0] :])

    def step(self, token: int) -> np.ndarray:
        """Return logits after one more speech token."""
        if not self._state:
            raise ValueError("this session has no prompt; call prefill first")
        return self._append(np.zeros((1, 0, self._config.hidden_size), np.float32), np.array([token], np.int64))

    def extend(self, ids: Sequence[int]) -> np.ndarray:
        """Raise InvalidRequest: this language model encodes the whole text before the first speech token."""
        raise InvalidRequest("target_text", "comes in pieces; this language model reads the whole text first")

    def close(self) -> None:
        """Free the keys and values; more than once does no harm."""
        self._state = {}

    def _append(self, prefix: np.ndarray, ids: np.ndarray) -> np.ndarray:
        needed = self.length + prefix.shape[1] + len(ids)
        if needed > PAST.hi:
            raise InvalidRequest(
                "prompt",
                f"{self.length} + {needed - self.length} tokens do not fit the language model's {PAST.hi} positions; "
                "send a shorter text or reference",
            )
        result = self._call("llm_step", prefix=prefix, token=ids[None], **self._state)
        self._state = next_state(result)
        return result["logits"][0]


def stage_llm(call: Call, stages: Sequence[Stage], config: TransformerLmConfig) -> LogitsLm:
    """Return the language model on the engine that runs `llm_text_encoder` and `llm_step`.

    Its sessions are conditioned on the speaker `[1, 192]`; None gives them no speaker (instructed speech).
    """
    by_name = {stage.name: stage for stage in stages}

    def session(conditioning: np.ndarray | None) -> StageSession:
        speaker = np.zeros((0, config.spk_embed_dim), np.float32) if conditioning is None else conditioning
        return StageSession(call, by_name, config, speaker)

    return LogitsLm(session, warm_up_ids=())
