"""The family `moss_ttsd`: two-speaker dialogue by a language model of eight channels and a codec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tritone.errors import CheckpointError
from tritone.families.moss_ttsd.checkpoint import open_checkpoint
from tritone.families.moss_ttsd.codec.config import released
from tritone.families.moss_ttsd.codec.stages import BATCH, codec_stages
from tritone.families.moss_ttsd.hosts import hosts, waveform
from tritone.families.moss_ttsd.lm.config import RELEASED
from tritone.families.moss_ttsd.lm.stages import StageSession, lm_stage
from tritone.families.moss_ttsd.request import REQUEST, prepare
from tritone.families.moss_ttsd.text_tokenizer import DialogueTokenizer
from tritone.families.moss_ttsd.whole import never, synthesize
from tritone.lm.shared import SharedLm
from tritone.stage import Arrays, Call, Family, Llm

NAME = "moss_ttsd"


def family(model_dir: str | Path) -> Family:
    """Return everything the exporters and servers need to know of the checkpoint in `model_dir`.

    Weights are loaded when a stage is built.

    Raises:
        CheckpointError, ConfigError: a file is missing or wrong; the message names it.
    """
    checkpoint = open_checkpoint(Path(model_dir))
    tokenizer = DialogueTokenizer(checkpoint.folder)
    stages = (*codec_stages(checkpoint.codec, checkpoint.load_codec), lm_stage(checkpoint.lm, checkpoint.load_lm))
    steps = hosts(checkpoint, tokenizer)

    def speak(call: Call, llm: Llm, request: Arrays, cancelled: Callable[[], bool] = never) -> Iterator[np.ndarray]:
        return synthesize(call, llm, prepare(call, request, checkpoint, tokenizer), checkpoint, cancelled)

    def stage_llm(call: Call) -> Llm:
        return SharedLm(StageSession(call, checkpoint.lm), BATCH.hi)

    return Family(
        name=NAME,
        stages=stages,
        language_model=None,
        request=REQUEST,
        response=steps[-1].outputs,
        synthesize=speak,
        hosts=steps,
        settings={"sample_rate": checkpoint.codec.sample_rate, "speakers": ()},
        stage_llm=stage_llm,
    )


def published(_kind: str) -> Family:
    """Return the family at the released sizes: to be listed, without weights."""

    def nothing(*_: Any, **__: Any) -> Any:
        raise CheckpointError("this family was described without a checkpoint; it has no weights.")

    codec = released()
    return Family(
        name=NAME,
        stages=(*codec_stages(codec, nothing), lm_stage(RELEASED, nothing)),
        language_model=None,
        request=REQUEST,
        response=(waveform(codec),),
        synthesize=nothing,
        stage_llm=nothing,
    )
