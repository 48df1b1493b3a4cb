"""The table of v1's official YAML: the key of each field and the class of each mapping."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

from tritone.families.cosyvoice.checkpoint.fields import Layout
from tritone.families.cosyvoice.checkpoint.shared_keys import (
    ATTENTION_KIND,
    COMMON_CLASSES,
    COMMON_CONSTANTS,
    COMMON_EXTENSIONS,
    COMMON_KEYS,
    COMMON_REPEATED,
    CONFORMER,
    DECODER_CONSTANTS,
    DROPOUT,
    ESTIMATOR,
    FLOW_CONSTANTS,
    HIFT_CLASSES,
    LM_CONSTANTS,
    UNET_CONSTANTS,
    UNET_KEYS,
    block_keys,
    same,
)
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.config.v1 import InterpolatingFlowConfig

LAYOUT = Layout(
    keys={
        **COMMON_KEYS,
        "lm.text_size": "llm.text_encoder_input_size",
        **same("lm", "llm", "text_token_size", "spk_embed_dim"),
        **block_keys("lm.text_encoder", "llm.text_encoder"),
        **block_keys("lm.decoder", "llm.llm"),
        **block_keys("flow.encoder", "flow.encoder"),
        "flow.sampling_ratios": "flow.length_regulator.sampling_ratios",
        **UNET_KEYS,
    },
    extensions=COMMON_EXTENSIONS,
    classes={
        "llm": ("!new:cosyvoice.llm.llm.TransformerLM", LM_CONSTANTS),
        "llm.text_encoder": (
            "!new:cosyvoice.transformer.encoder.ConformerEncoder",
            {**DROPOUT, "attention_dropout_rate": 0.0, **CONFORMER}
            | {"use_dynamic_chunk": False, "use_dynamic_left_chunk": False},
        ),
        "llm.llm": (
            "!new:cosyvoice.transformer.encoder.TransformerEncoder",
            {**DROPOUT, "attention_dropout_rate": 0.0, "input_layer": "linear_legacy", **ATTENTION_KIND},
        ),
        "flow": ("!new:cosyvoice.flow.flow.MaskedDiffWithXvec", FLOW_CONSTANTS),
        "flow.encoder": (
            "!new:cosyvoice.transformer.encoder.ConformerEncoder",
            {**DROPOUT, "attention_dropout_rate": 0.1, **CONFORMER},
        ),
        "flow.length_regulator": ("!new:cosyvoice.flow.length_regulator.InterpolateRegulator", {}),
        "flow.decoder": ("!new:cosyvoice.flow.flow_matching.ConditionalCFM", DECODER_CONSTANTS),
        ESTIMATOR: ("!new:cosyvoice.flow.decoder.ConditionalDecoder", UNET_CONSTANTS),
        **HIFT_CLASSES,
        **COMMON_CLASSES,
        "get_tokenizer": (
            "!name:whisper.tokenizer.get_tokenizer",
            {"multilingual": True, "num_languages": 100, "language": "en", "task": "transcribe"},
        ),
    },
    decisive=(
        *("llm", "llm.text_encoder", "llm.llm", "flow", "flow.encoder", "flow.length_regulator", "flow.decoder"),
        *(ESTIMATOR, "hift", "hift.f0_predictor"),
    ),
    constants=COMMON_CONSTANTS,
    repeated={
        **COMMON_REPEATED,
        "llm.llm_output_size": "lm.decoder.dim",
        "llm.text_encoder.input_size": "lm.text_size",
        "llm.llm.input_size": "lm.hidden_size",
        "flow.encoder.input_size": "flow.input_size",
        "flow.length_regulator.channels": "flow.output_size",
    },
    fixed=(
        *("normalize_before", "input_layer", "pos_enc_layer_type", "selfattention_layer_type", "use_cnn_module"),
        *("macaron_style", "use_dynamic_chunk", "act_fn", "center"),
    ),
    frontends=("whisper",),
)


def completed(config: CosyVoiceConfig, _path: Path) -> CosyVoiceConfig:
    """Return the configuration whose flow makes frames at the rate and hop of the mel spectrogram."""
    flow = cast("InterpolatingFlowConfig", config.flow)
    flow = dataclasses.replace(flow, sample_rate=config.mel.sample_rate, hop=config.mel.hop)
    return dataclasses.replace(config, flow=flow)
