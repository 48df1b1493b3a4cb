"""Where each field of a v3 configuration stands in the official YAML, and which class each mapping is tagged with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from tritone.errors import CheckpointError
from tritone.families.cosyvoice.checkpoint.fields import MEL_KEYS, VOCODER_KEYS, Layout, same
from tritone.families.cosyvoice.checkpoint.hyperyaml import Reference
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.config.v3 import DitFlowConfig
from tritone.families.cosyvoice.vocoder.noise_offset import with_noise_offset

_CFM = "flow.decoder.cfm_params.content"
_LOOKAHEAD = "flow.pre_lookahead_layer"
_DIT = "flow.decoder.estimator"
_KEYS: dict[str, str] = {
    "sample_rate": "sample_rate",
    "lm.hidden_size": "llm.llm_input_size",
    **same("lm", "llm", "speech_token_size", "mix_ratio"),
    **same("lm.sampling", "llm.sampling", "top_p", "top_k", "win_size", "tau_r"),
    **same("flow", "flow", "input_size", "output_size", "spk_embed_dim", "vocab_size", "token_mel_ratio"),
    "flow.token_frame_rate": "flow.input_frame_rate",
    "flow.pre_lookahead_len": "flow.pre_lookahead_len",
    "flow.encoder.channels": f"{_LOOKAHEAD}.channels",
    "flow.encoder.chunk_size": "chunk_size",
    **same("flow", _CFM, "sigma_min", "training_cfg_rate"),
    "flow.cfg_rate": f"{_CFM}.inference_cfg_rate",
    **same("flow.estimator", _DIT, "dim", "depth", "ff_mult", "out_channels"),
    "flow.estimator.num_heads": f"{_DIT}.heads",
    "flow.estimator.attention_head_dim": f"{_DIT}.dim_head",
    "flow.estimator.mel_channels": f"{_DIT}.mel_dim",
    "flow.estimator.mu_channels": f"{_DIT}.mu_dim",
    "flow.estimator.spk_channels": f"{_DIT}.spk_dim",
    "flow.estimator.chunk_size": f"{_DIT}.static_chunk_size",
    "flow.estimator.left_chunks": f"{_DIT}.num_decoding_left_chunks",
    **VOCODER_KEYS,
    "hift.look_right": "hift.conv_pre_look_right",
    **MEL_KEYS,
}
_EXTENSIONS: dict[str, str] = {
    "text_frontend": "text_frontend",
    "lm.min_token_text_ratio": "llm.min_token_text_ratio",
    "lm.max_token_text_ratio": "llm.max_token_text_ratio",
    "lm.published_minimum": "llm.published_minimum",
    "flow.steps": "flow.decoder.n_timesteps",
    "flow.stream_left_chunks": "flow.stream_left_chunks",
    "flow.published_stream": "flow.published_stream",
}
_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "llm": ("!new:cosyvoice.llm.llm.CosyVoice3LM", {"length_normalized_loss": True, "lsm_weight": 0}),
    "llm.llm": ("!new:cosyvoice.llm.llm.Qwen2Encoder", {"pretrain_path": ""}),
    "llm.sampling": ("!name:cosyvoice.utils.common.ras_sampling", {}),
    "flow": ("!new:cosyvoice.flow.flow.CausalMaskedDiffWithDiT", {"output_type": "mel", "only_mask_loss": True}),
    _LOOKAHEAD: ("!new:cosyvoice.transformer.upsample_encoder.PreLookaheadLayer", {}),
    "flow.decoder": (
        "!new:cosyvoice.flow.flow_matching.CausalConditionalCFM",
        {"in_channels": 240, "n_spks": 1, "spk_emb_dim": 80},
    ),
    "flow.decoder.cfm_params": ("!new:omegaconf.DictConfig", {}),
    _DIT: ("!new:cosyvoice.flow.DiT.dit.DiT", {"long_skip_connection": False}),
    "hift": ("!new:cosyvoice.hifigan.generator.CausalHiFTGenerator", {}),
    "hift.f0_predictor": ("!new:cosyvoice.hifigan.f0_predictor.CausalConvRNNF0Predictor", {"num_class": 1}),
    "feat_extractor": ("!name:matcha.utils.audio.mel_spectrogram", {"center": False}),
    "get_tokenizer": (
        "!name:cosyvoice.tokenizer.tokenizer.get_qwen_tokenizer",
        {"skip_special_tokens": True, "version": "cosyvoice3"},
    ),
}
V3_LAYOUT = Layout(
    keys=_KEYS,
    extensions=_EXTENSIONS,
    classes=_CLASSES,
    decisive=("llm", "flow", _LOOKAHEAD, "flow.decoder", _DIT, "hift", "hift.f0_predictor"),
    constants={
        f"{_CFM}.solver": "euler",
        f"{_CFM}.t_scheduler": "cosine",
        f"{_CFM}.reg_loss_type": "l1",
        "qwen_pretrain_path": "",
        "llm.llm.pretrain_path": Reference("<qwen_pretrain_path>"),
        "get_tokenizer.token_path": Reference("<qwen_pretrain_path>"),
        "allowed_special": "all",
    },
    repeated={
        "llm.llm_output_size": "lm.hidden_size",
        f"{_LOOKAHEAD}.in_channels": "flow.input_size",
        f"{_LOOKAHEAD}.pre_lookahead_len": "flow.pre_lookahead_len",
        "hift.f0_predictor.in_channels": "hift.in_channels",
    },
    fixed=("long_skip_connection", "center", "version"),
)


def completed(config: CosyVoiceConfig, path: Path) -> CosyVoiceConfig:
    """What was read, with what follows from it; CheckpointError where two settings contradict each other."""
    flow, hift = cast("DitFlowConfig", config.flow), config.hift
    frames = flow.encoder.chunk_size * flow.token_mel_ratio
    if flow.estimator.chunk_size != frames:
        raise CheckpointError(
            f"{path}: {_DIT}.static_chunk_size is {flow.estimator.chunk_size} frames, but chunk_size is "
            f"{flow.encoder.chunk_size} tokens, which are {frames}; a streaming step needs both to be the same."
        )
    if flow.estimator.mu_channels != flow.input_size:
        raise CheckpointError(
            f"{path}: {_DIT}.mu_dim is {flow.estimator.mu_channels}, but flow.input_size is {flow.input_size}; "
            f"in this layout the decoder is given the token embeddings, so they are the same."
        )
    if hift.look_right < 1:
        raise CheckpointError(
            f"{path}: hift.conv_pre_look_right is {hift.look_right}; a causal vocoder needs 1 or more."
        )
    return with_noise_offset(config)
