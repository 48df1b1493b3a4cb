"""The official v1 YAML and checkpoint folder: reading, writing back, and refused settings."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
from pathlib import Path

import pytest
import torch
from support.golden_weights import GOLDEN, tiny_state
from support.v1_helpers import YAML_FILE, tiny_config
from torch import nn

from tritone.checkpoint.weights import load_strict
from tritone.errors import CheckpointError
from tritone.families.cosyvoice.checkpoint.folder import CosyVoiceCheckpoint, load_config, write_checkpoint
from tritone.families.cosyvoice.checkpoint.yaml_file import parse_yaml, render_yaml
from tritone.families.cosyvoice.config.common import CosyVoiceConfig
from tritone.families.cosyvoice.config.v1 import ConformerConfig, TransformerLmConfig, UnetConfig
from tritone.families.cosyvoice.flow.v1.network import InterpolatingFlow
from tritone.families.cosyvoice.lm.v1.network import TransformerLm
from tritone.families.cosyvoice.published import V1
from tritone.families.cosyvoice.vocoder.hift import Hift

OFFICIAL = YAML_FILE.read_text()


def read(text: str) -> CosyVoiceConfig:
    return parse_yaml(text, Path("x.yaml"), 1)


def networks(config: CosyVoiceConfig) -> dict[str, nn.Module]:
    return {"llm": TransformerLm(config.lm), "flow": InterpolatingFlow(config.flow), "hift": Hift(config.hift)}


# --- configuration


def test_the_official_dialect_is_understood() -> None:
    config = tiny_config()
    blocks = ConformerConfig(64, 4, 96, 2, 1)
    assert config.lm == TransformerLmConfig(64, text_size=32, text_encoder=blocks, decoder=blocks)
    assert (config.lm.head_size, config.lm.stop_ids, config.lm.end_id) == (4097, (4096,), 4096)
    assert config.flow.encoder == ConformerConfig(64, 4, 96, 2)
    assert config.flow.estimator == UnetConfig(
        channels=(64, 64), attention_head_dim=16, n_blocks=1, num_mid_blocks=2, num_heads=4
    )
    assert (config.hift.base_channels, config.hift.hop, config.hift.sample_rate) == (32, 256, 22050)
    assert config.version.number == 1
    assert (config.sample_rate, config.text_frontend, config.mel) == (22050, "whisper", V1.mel)


@pytest.mark.parametrize(
    "config",
    [
        V1,
        dataclasses.replace(
            V1,
            lm=dataclasses.replace(V1.lm, text_token_size=60515, max_token_text_ratio=12.0),
            flow=dataclasses.replace(V1.flow, token_frame_rate=25, steps=6),
        ),
    ],
)
def test_what_is_written_reads_back_equal(config: CosyVoiceConfig) -> None:
    text = render_yaml(config)
    assert read(text) == config
    assert "!new:cosyvoice.llm.llm.TransformerLM" in text and "!name:whisper.tokenizer.get_tokenizer" in text


def test_the_25_hz_variant_has_twice_the_frames_per_token() -> None:
    slow = read(OFFICIAL.replace("input_frame_rate: 50", "input_frame_rate: 25")).flow
    assert (tiny_config().flow.frames(87), slow.frames(87)) == (149, 299)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "llm.TransformerLM",
            "llm.Qwen2LM",
            r"llm has class cosyvoice\.llm\.llm\.Qwen2LM; a CosyVoice 1 checkpoint has class Tr",
        ),
        (
            "flow.decoder.ConditionalDecoder",
            "a.Other",
            r"estimator has class cosyvoice\.a\.Other; .* has class Cond",
        ),
        (
            "InterpolateRegulator",
            "Repeat",
            "length_regulator has class .*Repeat; .* checkpoint has class InterpolateReg",
        ),
        ("macaron_style: False", "macaron_style: True", "text_encoder.macaron_style is True; only False is supported"),
        ("'rel_pos_espnet'", "'abs_pos'", "pos_enc_layer_type is 'abs_pos'; only 'rel_pos_espnet'"),
        ("act_fn: 'gelu'", "act_fn: 'snake'", "act_fn is 'snake'; only 'gelu' is supported"),
        (
            "channels: 80\n        sampling",
            "channels: 64\n        sampling",
            "channels is 64, but flow.output_size is 80",
        ),
        ("num_mid_blocks: 2", "num_mid_blocks: two", "num_mid_blocks is 'two'; expected int"),
    ],
)
def test_what_these_networks_do_not_compute_is_refused(old: str, new: str, message: str) -> None:
    assert old in OFFICIAL
    with pytest.raises(CheckpointError, match=message):
        read(OFFICIAL.replace(old, new))


def test_another_front_end_is_refused() -> None:
    with pytest.raises(CheckpointError, match="text_frontend is 'qwen'; supported here: \"whisper\""):
        read(OFFICIAL + "\ntext_frontend: qwen\n")


# --- directories and weights


def test_a_complete_directory_needs_no_backbone_and_loads_strictly(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, tiny_config(), {name: tiny_state(name, "v1") for name in ("llm", "flow", "hift")})
    assert (tmp_path / "cosyvoice.yaml").is_file()
    checkpoint = CosyVoiceCheckpoint(tmp_path)
    assert checkpoint.config == tiny_config() == load_config(tmp_path)
    for name, network in networks(checkpoint.config).items():
        load_strict(network, checkpoint.state(name), checkpoint.path(f"{name}.pt"))
    (tmp_path / "flow.pt").unlink()
    with pytest.raises(
        CheckpointError, match=r"has no flow\.pt; .* needs cosyvoice\.yaml, llm\.pt, flow\.pt, hift\.pt\."
    ):
        CosyVoiceCheckpoint(tmp_path)


@pytest.mark.parametrize("name", ["llm", "flow", "hift"])
def test_a_missing_and_an_extra_key_are_named(name: str) -> None:
    state = tiny_state(name, "v1")
    lost = next(iter(state))
    del state[lost]
    with pytest.raises(CheckpointError, match=rf"missing keys: {lost}; 1 unexpected keys: more"):
        load_strict(networks(tiny_config())[name], state | {"more": torch.zeros(1)}, "a.pt")


def test_the_old_weight_norm_layout_loads() -> None:
    state = tiny_state("hift", "v1")
    parts = (("parametrizations.weight.original0", "weight_g"), ("parametrizations.weight.original1", "weight_v"))
    old = state
    for new_name, old_name in parts:
        old = {key.replace(new_name, old_name): value for key, value in old.items()}
    assert "ups.0.weight_g" in old and old.keys() != state.keys()
    network = Hift(tiny_config().hift)
    load_strict(network, old, "hift.pt")
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(("name", "millions"), [("llm", 310.7), ("flow", 104.9), ("hift", 20.5)])
def test_full_size_keys_and_shapes_are_the_official_ones(name: str, millions: float) -> None:
    manifest = json.loads(gzip.decompress((GOLDEN / "cosyvoice_v1" / "manifest.json.gz").read_bytes()))[name]
    with torch.device("meta"):
        found = {key: list(value.shape) for key, value in networks(V1)[name].state_dict().items()}
    assert found == manifest
    assert sum(math.prod(shape) for shape in manifest.values()) / 1e6 == pytest.approx(millions, abs=0.1)
