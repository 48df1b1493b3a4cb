"""The chunks of the attention masks: what the flow's stages receive, and the length of a streaming step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tritone.families.cosyvoice.config.common import CommonFlowConfig, CosyVoiceConfig
from tritone.families.cosyvoice.flow.cfm import FULL_ATTENTION
from tritone.stage import Arrays


def chunk_tokens(config: CosyVoiceConfig) -> int:
    """Return speech tokens per chunk; a streaming step takes a multiple. ValueError for a flow without chunks."""
    return config.flow.chunk_tokens


def encoder_chunk(config: CosyVoiceConfig, streaming: bool) -> Arrays:
    """Return the input `chunk_size` of the encoder stages; empty for an encoder without attention."""
    return chunk_inputs(config.flow, (), streaming)


def chunk_inputs(flow: CommonFlowConfig, _rows: Sequence[object], streaming: bool) -> Arrays:
    """Return the input `chunk_size` of `flow_encoder`, the same for every utterance of a batch."""
    chunk = flow.encoder_chunk
    return {} if chunk is None else {"chunk_size": np.array([chunk if streaming else FULL_ATTENTION], np.int64)}


def estimator_chunk(config: CosyVoiceConfig, streaming: bool) -> int | None:
    """Return frames per chunk of the estimator's mask; None for an estimator without one."""
    chunk = config.flow.estimator_chunk
    return chunk if chunk is None or streaming else FULL_ATTENTION
