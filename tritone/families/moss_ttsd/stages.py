"""The family `moss_ttsd`: two-speaker dialogue by a language model of eight channels and a codec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tritone.families.moss_ttsd.checkpoint import open_checkpoint
from tritone.families.moss_ttsd.codec_stages import codec_stages
from tritone.families.moss_ttsd.hosts import hosts
from tritone.families.moss_ttsd.lm_stages import StageSession, lm_stage
from tritone.families.moss_ttsd.request import REQUEST, prepare
from tritone.families.moss_ttsd.synthesize import never, synthesize
from tritone.families.moss_ttsd.text_tokenizer import DialogueTokenizer
from tritone.stage import Arrays, Call, Family, Llm

NAME = "moss_ttsd"


def family(model_dir: str | Path) -> Family:
    """Everything the exporters and servers need to know of the checkpoint in `model_dir`.

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
        return lambda: StageSession(call, checkpoint.lm)

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
