"""The parts of the official YAML that are the same in several versions: keys, classes and constants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tritone.families.cosyvoice.checkpoint.hyperyaml import Reference

Classes = dict[str, tuple[str, Mapping[str, Any]]]
CFM = "flow.decoder.cfm_params.content"
ESTIMATOR = "flow.decoder.estimator"


def same(prefix: str, key: str, *names: str) -> dict[str, str]:
    """Return entries of `Layout.keys` for fields of one part of the configuration that have the YAML's own names."""
    return {f"{prefix}.{name}": f"{key}.{name}" for name in names}


def block_keys(prefix: str, key: str) -> dict[str, str]:
    """Return the keys of the sizes of a stack of transformer blocks."""
    return {
        f"{prefix}.dim": f"{key}.output_size",
        **same(prefix, key, "attention_heads", "linear_units", "num_blocks"),
        f"{prefix}.chunk_size": f"{key}.static_chunk_size",
    }


COMMON_KEYS: dict[str, str] = {
    "sample_rate": "sample_rate",
    "lm.hidden_size": "llm.llm_input_size",
    "lm.speech_token_size": "llm.speech_token_size",
    **same("lm.sampling", "llm.sampling", "top_p", "top_k", "win_size", "tau_r"),
    **same("flow", "flow", "input_size", "output_size", "spk_embed_dim", "vocab_size"),
    "flow.token_frame_rate": "flow.input_frame_rate",
    **same("flow", CFM, "sigma_min", "training_cfg_rate"),
    "flow.cfg_rate": f"{CFM}.inference_cfg_rate",
    "hift.sample_rate": "hift.sampling_rate",
    **same(
        *("hift", "hift"),
        *("in_channels", "base_channels", "nb_harmonics", "nsf_alpha", "nsf_sigma", "nsf_voiced_threshold"),
        *("upsample_rates", "upsample_kernel_sizes", "resblock_kernel_sizes", "resblock_dilation_sizes"),
        *("source_resblock_kernel_sizes", "source_resblock_dilation_sizes", "lrelu_slope", "audio_limit"),
    ),
    "hift.istft_n_fft": "hift.istft_params.n_fft",
    "hift.istft_hop": "hift.istft_params.hop_len",
    "hift.f0_channels": "hift.f0_predictor.cond_channels",
    **same("mel", "feat_extractor", "n_fft", "num_mels", "fmin", "fmax"),
    "mel.sample_rate": "feat_extractor.sampling_rate",
    "mel.hop": "feat_extractor.hop_size",
    "mel.win": "feat_extractor.win_size",
}
"""Settings of every version."""
CHUNKED_KEYS: dict[str, str] = {
    **COMMON_KEYS,
    "lm.mix_ratio": "llm.mix_ratio",
    **same("flow", "flow", "token_mel_ratio", "pre_lookahead_len"),
    "flow.estimator.chunk_size": f"{ESTIMATOR}.static_chunk_size",
    "flow.estimator.left_chunks": f"{ESTIMATOR}.num_decoding_left_chunks",
}
"""Settings of v2 and v3, whose flows work in chunks."""
UNET_KEYS: dict[str, str] = same(
    *("flow.estimator", ESTIMATOR),
    *("in_channels", "out_channels", "channels", "attention_head_dim", "n_blocks", "num_mid_blocks", "num_heads"),
)
"""Sizes of the estimators of v1 and v2."""
COMMON_EXTENSIONS: dict[str, str] = {
    "text_frontend": "text_frontend",
    "lm.min_token_text_ratio": "llm.min_token_text_ratio",
    "lm.max_token_text_ratio": "llm.max_token_text_ratio",
    "flow.steps": "flow.decoder.n_timesteps",
    "flow.published_stream": "flow.published_stream",
}
CHUNKED_EXTENSIONS: dict[str, str] = {**COMMON_EXTENSIONS, "flow.stream_left_chunks": "flow.stream_left_chunks"}
DROPOUT = {"dropout_rate": 0.1, "positional_dropout_rate": 0.1}
ATTENTION_KIND = {"pos_enc_layer_type": "rel_pos_espnet", "selfattention_layer_type": "rel_selfattn"}
CONFORMER = {
    **{"normalize_before": True, "input_layer": "linear"},
    **ATTENTION_KIND,
    **{"use_cnn_module": False, "macaron_style": False},
}
LM_CONSTANTS = {"length_normalized_loss": True, "lsm_weight": 0}
FLOW_CONSTANTS = {"output_type": "mel", "only_mask_loss": True}
DECODER_CONSTANTS = {"in_channels": 240, "n_spks": 1, "spk_emb_dim": 80}
UNET_CONSTANTS = {"dropout": 0.0, "act_fn": "gelu"}
F0_CONSTANTS = {"num_class": 1}
COMMON_CLASSES: Classes = {
    "llm.sampling": ("!name:cosyvoice.utils.common.ras_sampling", {}),
    "flow.decoder.cfm_params": ("!new:omegaconf.DictConfig", {}),
    "feat_extractor": ("!name:matcha.utils.audio.mel_spectrogram", {"center": False}),
}
HIFT_CLASSES: Classes = {
    "hift": ("!new:cosyvoice.hifigan.generator.HiFTGenerator", {}),
    "hift.f0_predictor": ("!new:cosyvoice.hifigan.f0_predictor.ConvRNNF0Predictor", F0_CONSTANTS),
}
"""The vocoder of v1 and v2."""
QWEN_CLASSES: Classes = {
    "llm.llm": ("!new:cosyvoice.llm.llm.Qwen2Encoder", {"pretrain_path": ""}),
    "flow.decoder": ("!new:cosyvoice.flow.flow_matching.CausalConditionalCFM", DECODER_CONSTANTS),
}
"""Classes of v2 and v3."""
COMMON_CONSTANTS: dict[str, Any] = {
    f"{CFM}.solver": "euler",
    f"{CFM}.t_scheduler": "cosine",
    f"{CFM}.reg_loss_type": "l1",
    "allowed_special": "all",
}
QWEN_CONSTANTS: dict[str, Any] = {
    **COMMON_CONSTANTS,
    "qwen_pretrain_path": "",
    "llm.llm.pretrain_path": Reference("<qwen_pretrain_path>"),
    "get_tokenizer.token_path": Reference("<qwen_pretrain_path>"),
}
COMMON_REPEATED = {"hift.f0_predictor.in_channels": "hift.in_channels"}
