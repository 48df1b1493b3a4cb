"""The language model's prompt in the merged vocabulary: speech ids first, then sos and task_id, then text ids."""

from __future__ import annotations

from collections.abc import Sequence

from tritone.families.cosyvoice.config import LmConfig
from tritone.families.cosyvoice.speakers import Voice


def prompt_ids(text: Sequence[int], voice: Voice, config: LmConfig) -> list[int]:
    """Ids of [sos, prompt text, text, task_id, prompt speech], the order the v2 model was trained on."""
    sos, task_id = config.head_size, config.head_size + 1
    first_text = config.head_size + 2
    spoken = voice.prompt_speech_token if voice.lm_prompt else []
    words = [first_text + token for token in (*voice.prompt_text, *text)]
    return [sos, *words, task_id, *spoken]
