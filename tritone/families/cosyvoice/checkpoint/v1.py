"""Where each field of a v1 configuration stands in the official YAML, and which class each mapping is tagged with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

from tritone.families.cosyvoice.checkpoint.fields import MEL_KEYS, VOCODER_KEYS, Layout, same
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.config.v1 import InterpolatingFlowConfig


def _blocks(prefix: str, key: str) -> dict[str, str]:
    """Return sizes of a stack of transformer blocks."""
    return {
        f"{prefix}.dim": f"{key}.output_size",
        **same(prefix, key, "attention_heads", "linear_units", "num_blocks"),
        f"{prefix}.chunk_size": f"{key}.static_chunk_size",
    }


_RATES = {"dropout_rate": 0.1, "positional_dropout_rate": 0.1}
_KIND = {"pos_enc_layer_type": "rel_pos_espnet", "selfattention_layer_type": "rel_selfattn"}
_CONFORMER = {
    **{"normalize_before": True, "input_layer": "linear"},
    **_KIND,
    **{"use_cnn_module": False, "macaron_style": False},
}
_CFM = "flow.decoder.cfm_params.content"
_KEYS: dict[str, str] = {
    "sample_rate": "sample_rate",
    "lm.hidden_size": "llm.llm_input_size",
    "lm.text_size": "llm.text_encoder_input_size",
    **same("lm", "llm", "text_token_size", "speech_token_size", "spk_embed_dim"),
    **same("lm.sampling", "llm.sampling", "top_p", "top_k", "win_size", "tau_r"),
    **_blocks("lm.text_encoder", "llm.text_encoder"),
    **_blocks("lm.decoder", "llm.llm"),
    **same("flow", "flow", "input_size", "output_size", "spk_embed_dim", "vocab_size"),
    "flow.token_frame_rate": "flow.input_frame_rate",
    **_blocks("flow.encoder", "flow.encoder"),
    "flow.sampling_ratios": "flow.length_regulator.sampling_ratios",
    **same("flow", _CFM, "sigma_min", "training_cfg_rate"),
    "flow.cfg_rate": f"{_CFM}.inference_cfg_rate",
    **same(
        *("flow.estimator", "flow.decoder.estimator"),
        *("in_channels", "out_channels", "channels", "attention_head_dim", "n_blocks", "num_mid_blocks", "num_heads"),
    ),
    **VOCODER_KEYS,
    **MEL_KEYS,
}
_EXTENSIONS: dict[str, str] = {
    "text_frontend": "text_frontend",
    "lm.min_token_text_ratio": "llm.min_token_text_ratio",
    "lm.max_token_text_ratio": "llm.max_token_text_ratio",
    "flow.steps": "flow.decoder.n_timesteps",
    "flow.published_stream": "flow.published_stream",
}
_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "llm": ("!new:cosyvoice.llm.llm.TransformerLM", {"length_normalized_loss": True, "lsm_weight": 0}),
    "llm.text_encoder": (
        "!new:cosyvoice.transformer.encoder.ConformerEncoder",
        {**_RATES, "attention_dropout_rate": 0.0, **_CONFORMER}
        | {"use_dynamic_chunk": False, "use_dynamic_left_chunk": False},
    ),
    "llm.llm": (
        "!new:cosyvoice.transformer.encoder.TransformerEncoder",
        {**_RATES, "attention_dropout_rate": 0.0, "input_layer": "linear_legacy", **_KIND},
    ),
    "llm.sampling": ("!name:cosyvoice.utils.common.ras_sampling", {}),
    "flow": ("!new:cosyvoice.flow.flow.MaskedDiffWithXvec", {"output_type": "mel", "only_mask_loss": True}),
    "flow.encoder": (
        "!new:cosyvoice.transformer.encoder.ConformerEncoder",
        {**_RATES, "attention_dropout_rate": 0.1, **_CONFORMER},
    ),
    "flow.length_regulator": ("!new:cosyvoice.flow.length_regulator.InterpolateRegulator", {}),
    "flow.decoder": (
        "!new:cosyvoice.flow.flow_matching.ConditionalCFM",
        {"in_channels": 240, "n_spks": 1, "spk_emb_dim": 80},
    ),
    "flow.decoder.cfm_params": ("!new:omegaconf.DictConfig", {}),
    "flow.decoder.estimator": ("!new:cosyvoice.flow.decoder.ConditionalDecoder", {"dropout": 0.0, "act_fn": "gelu"}),
    "hift": ("!new:cosyvoice.hifigan.generator.HiFTGenerator", {}),
    "hift.f0_predictor": ("!new:cosyvoice.hifigan.f0_predictor.ConvRNNF0Predictor", {"num_class": 1}),
    "feat_extractor": ("!name:matcha.utils.audio.mel_spectrogram", {"center": False}),
    "get_tokenizer": (
        "!name:whisper.tokenizer.get_tokenizer",
        {"multilingual": True, "num_languages": 100, "language": "en", "task": "transcribe"},
    ),
}
V1_LAYOUT = Layout(
    keys=_KEYS,
    extensions=_EXTENSIONS,
    classes=_CLASSES,
    decisive=(
        *("llm", "llm.text_encoder", "llm.llm", "flow", "flow.encoder", "flow.length_regulator", "flow.decoder"),
        *("flow.decoder.estimator", "hift", "hift.f0_predictor"),
    ),
    constants={
        f"{_CFM}.solver": "euler",
        f"{_CFM}.t_scheduler": "cosine",
        f"{_CFM}.reg_loss_type": "l1",
        "allowed_special": "all",
    },
    repeated={
        "llm.llm_output_size": "lm.decoder.dim",
        "llm.text_encoder.input_size": "lm.text_size",
        "llm.llm.input_size": "lm.hidden_size",
        "flow.encoder.input_size": "flow.input_size",
        "flow.length_regulator.channels": "flow.output_size",
        "hift.f0_predictor.in_channels": "hift.in_channels",
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
