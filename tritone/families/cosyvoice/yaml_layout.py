"""Where each field of the configuration stands in the official YAML, and which class each mapping is tagged with.

One table serves reading and writing, so what is written reads back equal.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tritone.errors import CheckpointError
from tritone.families.cosyvoice import hyperyaml
from tritone.families.cosyvoice.config import CosyVoiceConfig

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
    "hift.sample_rate": "hift.sampling_rate",
    **{
        f"hift.{name}": f"hift.{name}"
        for name in (
            *("in_channels", "base_channels", "nb_harmonics", "nsf_alpha", "nsf_sigma", "nsf_voiced_threshold"),
            *("upsample_rates", "upsample_kernel_sizes", "resblock_kernel_sizes", "resblock_dilation_sizes"),
            *("source_resblock_kernel_sizes", "source_resblock_dilation_sizes", "lrelu_slope", "audio_limit"),
        )
    },
    "hift.istft_n_fft": "hift.istft_params.n_fft",
    "hift.istft_hop": "hift.istft_params.hop_len",
    "hift.f0_channels": "hift.f0_predictor.cond_channels",
    **{f"mel.{name}": f"feat_extractor.{name}" for name in ("n_fft", "num_mels", "fmin", "fmax")},
    "mel.sample_rate": "feat_extractor.sampling_rate",
    "mel.hop": "feat_extractor.hop_size",
    "mel.win": "feat_extractor.win_size",
}
# Settings the published classes do not have: written only where they differ from what those classes hard-code.
_EXTENSIONS: dict[str, str] = {
    "text_frontend": "text_frontend",
    "lm.min_token_text_ratio": "llm.min_token_text_ratio",
    "lm.max_token_text_ratio": "llm.max_token_text_ratio",
    "flow.steps": "flow.decoder.n_timesteps",
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


def parse_yaml(text: str, path: Path) -> CosyVoiceConfig:
    """The configuration in HyperPyYAML text; absent keys keep the published classes' values. `path` is for errors."""
    try:
        document = hyperyaml.parse(text)
    except (hyperyaml.HyperYamlError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    _check_classes(document, path)
    values = {}
    for field, key in (_KEYS | _EXTENSIONS).items():
        found, value = _get(document, key)
        if found:
            values[field] = value
    config = _replace(CosyVoiceConfig(), values, path)
    if config.text_frontend not in ("qwen", "phonemes"):
        raise CheckpointError(f'{path}: text_frontend is {config.text_frontend!r}; it is "qwen" or "phonemes".')
    return config


def render_yaml(config: CosyVoiceConfig) -> str:
    """HyperPyYAML text with the official class names that `parse_yaml` reads back to an equal configuration."""
    document: dict[str, Any] = {}
    for key, (_, constants) in _CLASSES.items():
        for name, value in constants.items():
            _put(document, f"{key}.{name}", value)
    default = CosyVoiceConfig()
    for field, key in (_KEYS | _EXTENSIONS).items():
        value = _field(config, field)
        if field in _KEYS or value != _field(default, field):
            _put(document, key, _plain(value))
    _put(document, "llm.llm_output_size", config.lm.hidden_size)
    _put(document, "flow.encoder.input_size", config.flow.input_size)
    _put(document, "flow.decoder.cfm_params.content.solver", "euler")
    _put(document, "flow.decoder.cfm_params.content.t_scheduler", "cosine")
    _put(document, "flow.decoder.cfm_params.content.reg_loss_type", "l1")
    _put(document, "hift.f0_predictor.in_channels", config.hift.in_channels)
    document["qwen_pretrain_path"] = ""
    _put(document, "llm.llm.pretrain_path", hyperyaml.Reference("<qwen_pretrain_path>"))
    _put(document, "get_tokenizer.token_path", hyperyaml.Reference("<qwen_pretrain_path>"))
    document["allowed_special"] = "all"
    first = {key: document.pop(key) for key in ("sample_rate", "qwen_pretrain_path", "allowed_special")}
    tagged = _tag(document, "")
    return hyperyaml.render(first | tagged)


def _check_classes(document: Mapping[str, Any], path: Path) -> None:
    for key in ("llm", "flow", "flow.encoder", "flow.decoder.estimator", "hift"):
        expected = _CLASSES[key][0].rpartition(".")[2]
        _, node = _get(document, key)
        name = node.get("!new") if isinstance(node, dict) else None
        if str(name).rpartition(".")[2] != expected:
            found = f"class {name}" if name else "no class"
            raise CheckpointError(f"{path}: {key} has {found}; this layout is {expected}.")


def _get(document: Mapping[str, Any], key: str) -> tuple[bool, Any]:
    value: Any = document
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value


def _put(document: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for part in parents:
        document = document.setdefault(part, {})
    document[last] = value


def _tag(node: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The nested dict with each mapping that has a class wrapped in its tag."""
    result: dict[str, Any] = {}
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            value = _tag(value, f"{key}.")
            value = hyperyaml.Tagged(_CLASSES[key][0], value) if key in _CLASSES else value
        result[name] = value
    return result


def _field(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = getattr(config, part)
    return config


def _replace(config: Any, values: Mapping[str, Any], path: Path) -> Any:
    """The dataclass with the dotted fields replaced, each checked against the type of its default."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        current = getattr(config, field.name)
        if dataclasses.is_dataclass(current):
            inner = {k.partition(".")[2]: v for k, v in values.items() if k.partition(".")[0] == field.name}
            changes[field.name] = _replace(current, inner, path)
        elif field.name in values:
            changes[field.name] = _typed(values[field.name], current, field, path)
    return dataclasses.replace(config, **changes)


def _typed(value: Any, default: Any, field: dataclasses.Field[Any], path: Path) -> Any:
    value = _frozen(value)
    if value is None and "None" in str(field.type):
        return None
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if isinstance(default, float) and isinstance(value, str):
        with contextlib.suppress(ValueError):  # YAML 1.1 reads 1e-06 (no dot) as a string
            value = float(value)
    if type(value) is not type(default):
        expected = type(default).__name__.replace("tuple", "list")
        raise CheckpointError(f"{path}: {field.name} is {value!r}; expected {expected}.")
    return value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
