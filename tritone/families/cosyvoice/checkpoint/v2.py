"""The table of v2's official YAML: the key of each field and the class of each mapping."""

from __future__ import annotations

from tritone.families.cosyvoice.checkpoint.fields import Layout
from tritone.families.cosyvoice.checkpoint.shared_keys import (
    CHUNKED_EXTENSIONS,
    CHUNKED_KEYS,
    COMMON_CLASSES,
    COMMON_REPEATED,
    CONFORMER,
    DROPOUT,
    ESTIMATOR,
    FLOW_CONSTANTS,
    HIFT_CLASSES,
    LM_CONSTANTS,
    QWEN_CLASSES,
    QWEN_CONSTANTS,
    UNET_CONSTANTS,
    UNET_KEYS,
    block_keys,
)

LAYOUT = Layout(
    keys={**CHUNKED_KEYS, **block_keys("flow.encoder", "flow.encoder"), **UNET_KEYS},
    extensions={
        **CHUNKED_EXTENSIONS,
        "flow.encoder.num_up_blocks": "flow.encoder.num_up_blocks",
        "flow.encoder.left_chunks": "flow.encoder.num_decoding_left_chunks",
    },
    classes={
        "llm": ("!new:cosyvoice.llm.llm.Qwen2LM", LM_CONSTANTS),
        "flow": ("!new:cosyvoice.flow.flow.CausalMaskedDiffWithXvec", FLOW_CONSTANTS),
        "flow.encoder": (
            "!new:cosyvoice.transformer.upsample_encoder.UpsampleConformerEncoder",
            {**DROPOUT, "attention_dropout_rate": 0.1, **CONFORMER},
        ),
        ESTIMATOR: ("!new:cosyvoice.flow.decoder.CausalConditionalDecoder", UNET_CONSTANTS),
        **QWEN_CLASSES,
        **HIFT_CLASSES,
        **COMMON_CLASSES,
        "get_tokenizer": ("!name:cosyvoice.tokenizer.tokenizer.get_qwen_tokenizer", {"skip_special_tokens": True}),
    },
    decisive=("llm", "flow", "flow.encoder", ESTIMATOR, "hift"),
    constants=QWEN_CONSTANTS,
    repeated={
        **COMMON_REPEATED,
        "llm.llm_output_size": "lm.hidden_size",
        "flow.encoder.input_size": "flow.input_size",
    },
)
