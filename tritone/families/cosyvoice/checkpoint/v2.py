"""Where each field of a v2 configuration stands in the official YAML, and which class each mapping is tagged with."""

from __future__ import annotations

from typing import Any

from tritone.families.cosyvoice.checkpoint.fields import MEL_KEYS, VOCODER_KEYS, Layout
from tritone.families.cosyvoice.checkpoint.hyperyaml import Reference

_KEYS: dict[str, str] = {
    "sample_rate": "sample_rate",
    "lm.hidden_size": "llm.llm_input_size",
    "lm.speech_token_size": "llm.speech_token_size",
    "lm.mix_ratio": "llm.mix_ratio",
    **{f"lm.sampling.{name}": f"llm.sampling.{name}" for name in ("top_p", "top_k", "win_size", "tau_r")},
    "flow.input_size": "flow.input_size",
    "flow.output_size": "flow.output_size",
    "flow.spk_embed_dim": "flow.spk_embed_dim",
    "flow.vocab_size": "flow.vocab_size",
    "flow.token_frame_rate": "flow.input_frame_rate",
    "flow.token_mel_ratio": "flow.token_mel_ratio",
    "flow.pre_lookahead_len": "flow.pre_lookahead_len",
    "flow.encoder.dim": "flow.encoder.output_size",
    "flow.encoder.attention_heads": "flow.encoder.attention_heads",
    "flow.encoder.linear_units": "flow.encoder.linear_units",
    "flow.encoder.num_blocks": "flow.encoder.num_blocks",
    "flow.encoder.chunk_size": "flow.encoder.static_chunk_size",
    "flow.sigma_min": "flow.decoder.cfm_params.content.sigma_min",
    "flow.training_cfg_rate": "flow.decoder.cfm_params.content.training_cfg_rate",
    "flow.cfg_rate": "flow.decoder.cfm_params.content.inference_cfg_rate",
    **{
        f"flow.estimator.{name}": f"flow.decoder.estimator.{name}"
        for name in (
            *("in_channels", "out_channels", "channels", "attention_head_dim", "n_blocks", "num_mid_blocks"),
            "num_heads",
        )
    },
    "flow.estimator.chunk_size": "flow.decoder.estimator.static_chunk_size",
    "flow.estimator.left_chunks": "flow.decoder.estimator.num_decoding_left_chunks",
    **VOCODER_KEYS,
    **MEL_KEYS,
}
# Settings the published classes do not have: written only where they differ from what those classes hard-code.
_EXTENSIONS: dict[str, str] = {
    "text_frontend": "text_frontend",
    "lm.min_token_text_ratio": "llm.min_token_text_ratio",
    "lm.max_token_text_ratio": "llm.max_token_text_ratio",
    "flow.steps": "flow.decoder.n_timesteps",
    "flow.stream_left_chunks": "flow.stream_left_chunks",
    "flow.published_stream": "flow.published_stream",
    "flow.encoder.num_up_blocks": "flow.encoder.num_up_blocks",
    "flow.encoder.left_chunks": "flow.encoder.num_decoding_left_chunks",
}
# Class of each tagged mapping, and the constants that class is given beside the configuration.
_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "llm": ("!new:cosyvoice.llm.llm.Qwen2LM", {"length_normalized_loss": True, "lsm_weight": 0}),
    "llm.llm": ("!new:cosyvoice.llm.llm.Qwen2Encoder", {"pretrain_path": ""}),
    "llm.sampling": ("!name:cosyvoice.utils.common.ras_sampling", {}),
    "flow": ("!new:cosyvoice.flow.flow.CausalMaskedDiffWithXvec", {"output_type": "mel", "only_mask_loss": True}),
    "flow.encoder": (
        "!new:cosyvoice.transformer.upsample_encoder.UpsampleConformerEncoder",
        {
            **{"dropout_rate": 0.1, "positional_dropout_rate": 0.1, "attention_dropout_rate": 0.1},
            **{"normalize_before": True, "input_layer": "linear", "pos_enc_layer_type": "rel_pos_espnet"},
            **{"selfattention_layer_type": "rel_selfattn", "use_cnn_module": False, "macaron_style": False},
        },
    ),
    "flow.decoder": (
        "!new:cosyvoice.flow.flow_matching.CausalConditionalCFM",
        {"in_channels": 240, "n_spks": 1, "spk_emb_dim": 80},
    ),
    "flow.decoder.cfm_params": ("!new:omegaconf.DictConfig", {}),
    "flow.decoder.estimator": (
        "!new:cosyvoice.flow.decoder.CausalConditionalDecoder",
        {"dropout": 0.0, "act_fn": "gelu"},
    ),
    "hift": ("!new:cosyvoice.hifigan.generator.HiFTGenerator", {}),
    "hift.f0_predictor": ("!new:cosyvoice.hifigan.f0_predictor.ConvRNNF0Predictor", {"num_class": 1}),
    "feat_extractor": ("!name:matcha.utils.audio.mel_spectrogram", {"center": False}),
    "get_tokenizer": ("!name:cosyvoice.tokenizer.tokenizer.get_qwen_tokenizer", {"skip_special_tokens": True}),
}


V2_LAYOUT = Layout(
    keys=_KEYS,
    extensions=_EXTENSIONS,
    classes=_CLASSES,
    decisive=("llm", "flow", "flow.encoder", "flow.decoder.estimator", "hift"),
    constants={
        "flow.decoder.cfm_params.content.solver": "euler",
        "flow.decoder.cfm_params.content.t_scheduler": "cosine",
        "flow.decoder.cfm_params.content.reg_loss_type": "l1",
        "qwen_pretrain_path": "",
        "llm.llm.pretrain_path": Reference("<qwen_pretrain_path>"),
        "get_tokenizer.token_path": Reference("<qwen_pretrain_path>"),
        "allowed_special": "all",
    },
    repeated={
        "llm.llm_output_size": "lm.hidden_size",
        "flow.encoder.input_size": "flow.input_size",
        "hift.f0_predictor.in_channels": "hift.in_channels",
    },
)
