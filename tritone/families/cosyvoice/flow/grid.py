"""The chunks of the attention masks, by layout: what the flow's stages are told, and how far a streaming step goes."""

from __future__ import annotations

import numpy as np

from tritone.families.cosyvoice.config.common import CosyVoiceConfig, EncoderConfig, EstimatorConfig
from tritone.families.cosyvoice.config.v3 import DitConfig, LookaheadConfig
from tritone.families.cosyvoice.flow.cfm import FULL_ATTENTION
from tritone.stage import Arrays


def chunk_tokens(config: CosyVoiceConfig) -> int:
    """Speech tokens per chunk; a streaming step takes a multiple. ValueError where the layout has no chunks."""
    encoder = config.flow.encoder
    if not isinstance(encoder, EncoderConfig | LookaheadConfig):
        raise ValueError(f"the flow of the v{config.version} layout has no chunks: it cannot be computed step by step")
    return encoder.chunk_size


def encoder_chunk(config: CosyVoiceConfig, streaming: bool) -> Arrays:
    """Input `chunk_size` of the encoder stages; empty where the encoder has no attention to mask."""
    encoder = config.flow.encoder
    if not isinstance(encoder, EncoderConfig):
        return {}
    return {"chunk_size": np.array([encoder.chunk_size if streaming else FULL_ATTENTION], np.int64)}


def estimator_chunk(config: CosyVoiceConfig, streaming: bool) -> int | None:
    """Return frames per chunk of the estimator's mask; None where it has none."""
    estimator = config.flow.estimator
    if not isinstance(estimator, EstimatorConfig | DitConfig):
        return None
    return estimator.chunk_size if streaming else FULL_ATTENTION
