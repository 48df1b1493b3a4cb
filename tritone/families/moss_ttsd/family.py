"""The family `moss_ttsd`: two-speaker dialogue by a language model of eight channels and a codec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tritone.calls import FilesRead, never
from tritone.errors import CheckpointError
from tritone.families.moss_ttsd.checkpoint import open_checkpoint
from tritone.families.moss_ttsd.codec.config import released
from tritone.families.moss_ttsd.codec.stages import BATCH, codec_stages
from tritone.families.moss_ttsd.hosts import hosts, waveform
from tritone.families.moss_ttsd.lm.config import RELEASED
from tritone.families.moss_ttsd.lm.stages import StageGroup, lm_stage
from tritone.families.moss_ttsd.request import REQUEST, prepare
from tritone.families.moss_ttsd.stream import synthesize
from tritone.families.moss_ttsd.text_tokenizer import DialogueTokenizer
from tritone.lm.description import StageLm
from tritone.lm.protocols import RowSource
from tritone.lm.shared import SharedLm
from tritone.stage import Arrays, Call, Family

NAME = "moss_ttsd"


def family(model_dir: str | Path, dtype: str = "", attention: str = "", device: str = "cpu") -> Family:
    """Return the description of the checkpoint in `model_dir` for exporters and servers.

    Weights are loaded when a stage is built.

    Args:
        dtype: of the language model on torch (default: "float32", as exported); the codec stays in float32.
        attention: of the language model on torch, "auto" for the fastest that runs (default: "eager", as exported).
        device: where it will run, for `attention`.

    Raises:
        CheckpointError, ConfigError: a file is missing or wrong, or a choice does not exist; the message names it.
    """
    checkpoint = open_checkpoint(Path(model_dir))
    load_lm = checkpoint.load_lm
    if dtype or attention:
        from tritone.families.moss_ttsd.lm.choices import resolve_attention, resolve_dtype

        kind = resolve_dtype(dtype or "float32", device)
        load_lm = partial(load_lm, kind, resolve_attention(attention or "eager", device, kind))
    config, tokenizer = checkpoint.config, DialogueTokenizer(checkpoint.folder)
    host_steps = hosts(config, tokenizer)

    def speak(
        call: Call, llm: RowSource, request: Arrays, cancelled: Callable[[], bool] = never
    ) -> Iterator[np.ndarray]:
        return synthesize(call, llm, prepare(call, request, config, tokenizer), config, cancelled)

    def open_llm(call: Call) -> RowSource:
        return SharedLm(StageGroup(call, config.lm), BATCH.hi)

    return Family(
        name=NAME,
        stages=(*codec_stages(config.codec, checkpoint.load_codec), lm_stage(config.lm, load_lm)),
        lm=StageLm(open_llm),
        request=REQUEST,
        response=host_steps[-1].outputs,
        synthesize=speak,
        hosts=host_steps,
        settings={"sample_rate": config.codec.sample_rate, "speakers": ()},
        files=lambda: FilesRead(checkpoint.files),
    )


def published(_kind: str) -> Family:
    """Return the description of the released sizes, which can be listed but has no weights."""

    def no_checkpoint(*_: Any, **__: Any) -> Any:
        raise CheckpointError("this family was described without a checkpoint; it has no weights.")

    codec = released()
    return Family(
        name=NAME,
        stages=(*codec_stages(codec, no_checkpoint), lm_stage(RELEASED, no_checkpoint)),
        lm=StageLm(no_checkpoint),
        request=REQUEST,
        response=(waveform(codec),),
        synthesize=no_checkpoint,
    )
