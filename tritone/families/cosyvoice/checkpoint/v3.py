"""The table of v3's official YAML: the key of each field and the class of each mapping."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from tritone.errors import CheckpointError
from tritone.families.cosyvoice.checkpoint.fields import Layout
from tritone.families.cosyvoice.checkpoint.shared_keys import (
    CHUNKED_EXTENSIONS,
    CHUNKED_KEYS,
    COMMON_CLASSES,
    COMMON_REPEATED,
    ESTIMATOR,
    F0_CONSTANTS,
    FLOW_CONSTANTS,
    LM_CONSTANTS,
    QWEN_CLASSES,
    QWEN_CONSTANTS,
    same,
)
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.config.v3 import DitFlowConfig
from tritone.families.cosyvoice.vocoder.noise_offset import with_noise_offset

_LOOKAHEAD = "flow.pre_lookahead_layer"
LAYOUT = Layout(
    keys={
        **CHUNKED_KEYS,
        "flow.encoder.channels": f"{_LOOKAHEAD}.channels",
        "flow.encoder.chunk_size": "chunk_size",
        **same("flow.estimator", ESTIMATOR, "dim", "depth", "ff_mult", "out_channels"),
        "flow.estimator.num_heads": f"{ESTIMATOR}.heads",
        "flow.estimator.attention_head_dim": f"{ESTIMATOR}.dim_head",
        "flow.estimator.mel_channels": f"{ESTIMATOR}.mel_dim",
        "flow.estimator.mu_channels": f"{ESTIMATOR}.mu_dim",
        "flow.estimator.spk_channels": f"{ESTIMATOR}.spk_dim",
        "hift.look_right": "hift.conv_pre_look_right",
    },
    extensions={**CHUNKED_EXTENSIONS, "lm.published_minimum": "llm.published_minimum"},
    classes={
        "llm": ("!new:cosyvoice.llm.llm.CosyVoice3LM", LM_CONSTANTS),
        "flow": ("!new:cosyvoice.flow.flow.CausalMaskedDiffWithDiT", FLOW_CONSTANTS),
        _LOOKAHEAD: ("!new:cosyvoice.transformer.upsample_encoder.PreLookaheadLayer", {}),
        ESTIMATOR: ("!new:cosyvoice.flow.DiT.dit.DiT", {"long_skip_connection": False}),
        "hift": ("!new:cosyvoice.hifigan.generator.CausalHiFTGenerator", {}),
        "hift.f0_predictor": ("!new:cosyvoice.hifigan.f0_predictor.CausalConvRNNF0Predictor", F0_CONSTANTS),
        **QWEN_CLASSES,
        **COMMON_CLASSES,
        "get_tokenizer": (
            "!name:cosyvoice.tokenizer.tokenizer.get_qwen_tokenizer",
            {"skip_special_tokens": True, "version": "cosyvoice3"},
        ),
    },
    decisive=("llm", "flow", _LOOKAHEAD, "flow.decoder", ESTIMATOR, "hift", "hift.f0_predictor"),
    constants=QWEN_CONSTANTS,
    repeated={
        **COMMON_REPEATED,
        "llm.llm_output_size": "lm.hidden_size",
        f"{_LOOKAHEAD}.in_channels": "flow.input_size",
        f"{_LOOKAHEAD}.pre_lookahead_len": "flow.pre_lookahead_len",
    },
    fixed=("long_skip_connection", "center", "version"),
)


def completed(config: CosyVoiceConfig, path: Path) -> CosyVoiceConfig:
    """Return the configuration with its noise offset; CheckpointError for settings that contradict each other."""
    flow, hift = cast("DitFlowConfig", config.flow), config.hift
    frames = flow.encoder.chunk_size * flow.token_mel_ratio
    if flow.estimator.chunk_size != frames:
        raise CheckpointError(
            f"{path}: {ESTIMATOR}.static_chunk_size is {flow.estimator.chunk_size} frames, but chunk_size is "
            f"{flow.encoder.chunk_size} tokens, which are {frames} frames; the two must be equal."
        )
    if flow.estimator.mu_channels != flow.input_size:
        raise CheckpointError(
            f"{path}: {ESTIMATOR}.mu_dim is {flow.estimator.mu_channels}, but flow.input_size is {flow.input_size}; "
            f"the decoder receives the token embeddings, so they must be equal."
        )
    if hift.look_right < 1:
        raise CheckpointError(
            f"{path}: hift.conv_pre_look_right is {hift.look_right}; the causal vocoder of CosyVoice 3 needs 1 or more."
        )
    return with_noise_offset(config)
