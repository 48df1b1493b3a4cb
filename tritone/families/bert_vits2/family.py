"""The family `bert_vits2`: multilingual speech by VITS networks that take BERT features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritone.calls import FilesRead, never
from tritone.errors import CheckpointError
from tritone.families.bert_vits2.checkpoint import open_checkpoint
from tritone.families.bert_vits2.config import BertVits2Config
from tritone.families.bert_vits2.hosts import hosts
from tritone.families.bert_vits2.request import REQUEST
from tritone.families.bert_vits2.stages import all_stages
from tritone.families.bert_vits2.stream import synthesize
from tritone.families.bert_vits2.text.symbols import LANGUAGES
from tritone.families.bert_vits2.voice import REFERENCE_RATES, Voice
from tritone.lm.description import NoLm
from tritone.lm.protocols import Llm
from tritone.stage import Arrays, Call, Family

if TYPE_CHECKING:
    from tritone.families.bert_vits2.networks.generator import Generator

NAME = "bert_vits2"


def family(model_dir: str | Path, generator: str | Path | None = None) -> Family:
    """Return the description of the checkpoint in `model_dir` for exporters and servers.

    Weights are loaded when a stage is built.

    Args:
        generator: the file of weights to use; by default the newest in the folder.

    Raises:
        CheckpointError, ConfigError: a file is missing or invalid; the message names it.
    """
    checkpoint = open_checkpoint(Path(model_dir), None if generator is None else Path(generator))
    described = describe(checkpoint.config, checkpoint.load, checkpoint.voice)
    return replace(described, files=lambda: FilesRead(checkpoint.files))


def describe(config: BertVits2Config, load: Callable[[], Generator], voice: Voice) -> Family:
    """Return the family of a configuration whose generator is returned by `load()`."""
    host_steps = hosts(voice)

    def speak(call: Call, _llm: Llm, request: Arrays, cancelled: Callable[[], bool] = never) -> Iterator[np.ndarray]:
        return synthesize(call, request, voice, cancelled)

    return Family(
        name=NAME,
        stages=all_stages(config, load),
        lm=NoLm(),
        request=REQUEST,
        response=host_steps[-1].outputs,
        synthesize=speak,
        hosts=host_steps,
        settings={
            "sample_rate": config.data.sampling_rate,
            "speakers": list(voice.speakers),
            "languages": [*LANGUAGES, "AUTO"],
            "bert": sorted(voice.bert.encoders),
            "version": config.version,
            "emotion_numbers": config.emotion.numbers,
            "speaker_from": "recording" if voice.heard else "table",
        },
        trial=trial(voice),
    )


def trial(voice: Voice) -> Arrays:
    """Return the inputs that a trial request needs: noise as the speaker's recording, and an embedding of zeros."""
    rng, kind = np.random.default_rng(0), voice.config.emotion
    recording = {"reference_wav": 0.1 * rng.standard_normal((1, REFERENCE_RATES[0])).astype(np.float32)}
    needs_emotion = kind.numbers and not kind.clusters and voice.own_emotion is None
    emotion = {"emotion": np.zeros((1, kind.numbers), np.float32)}
    return (recording if voice.heard else {}) | (emotion if needs_emotion else {})


def published(_kind: str) -> Family:
    """Return the description of the published sizes of 2.3, which can be listed but has no weights."""

    def no_checkpoint(*_: Any, **__: Any) -> Any:
        raise CheckpointError("this family was described without a checkpoint; it has no weights.")

    config = BertVits2Config()
    return describe(config, no_checkpoint, Voice(config, {}))
