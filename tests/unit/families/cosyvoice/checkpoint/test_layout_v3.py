"""The official v3 YAML, the full-size keys and shapes, and strict loading of the variants of checkpoints."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from support.golden_weights import FULL_BACKBONE, full_size_shapes, tiny_state
from support.v3_helpers import YAML_FILE, tiny_config, tiny_flow, tiny_hift

from tritone.catalog import open_family
from tritone.checkpoint.weights import load_strict
from tritone.errors import CheckpointError
from tritone.families.cosyvoice.checkpoint.folder import CosyVoiceCheckpoint
from tritone.families.cosyvoice.checkpoint.yaml_file import parse_yaml, render_yaml
from tritone.families.cosyvoice.config.common import CosyVoiceConfig, LmConfig
from tritone.families.cosyvoice.config.v3 import DitConfig, LookaheadConfig
from tritone.families.cosyvoice.flow.v3.network import DitFlow
from tritone.families.cosyvoice.lm.v2.network import SpeechLM
from tritone.families.cosyvoice.published import V3
from tritone.families.cosyvoice.vocoder.hift import Hift

OFFICIAL = YAML_FILE.read_text()


def read(text: str) -> CosyVoiceConfig:
    return parse_yaml(text, Path("x.yaml"), 3)


def test_the_official_dialect_is_understood() -> None:
    config = read(OFFICIAL)
    assert config.version.number == 3 and config.text_frontend == "qwen"
    assert config.lm == dataclasses.replace(V3.lm, hidden_size=64)
    assert config.flow == dataclasses.replace(
        V3.flow,
        encoder=LookaheadConfig(channels=32),
        estimator=DitConfig(dim=64, depth=2, num_heads=4, attention_head_dim=16),
    )
    assert (config.hift.base_channels, config.hift.f0_channels, config.hift.look_right) == (32, 32, 4)
    assert config.hift.causal and config.hift.noise_offset == 1763050
    assert config.mel.fmax is None and read(OFFICIAL.replace("fmax: null", "fmax: 8000")).mel.fmax == 8000.0


def test_ids_behind_the_codes() -> None:
    lm = V3.lm
    assert (lm.head_size, lm.end_id, lm.fill_id) == (6761, 6562, 6564)
    assert lm.stop_ids == tuple(range(6561, 6761)) == lm.early_ids
    assert dataclasses.replace(lm, published_minimum=True).early_ids == (6561,)
    assert (LmConfig().end_id, LmConfig().fill_id, LmConfig().early_ids) == (6561, 6563, (6561,))


def test_what_is_written_reads_back_equal() -> None:
    bounded = dataclasses.replace(V3.flow, steps=5, estimator=dataclasses.replace(V3.flow.estimator, left_chunks=4))
    for config in (V3, tiny_config(), dataclasses.replace(V3, flow=bounded)):
        assert read(render_yaml(config)) == config
    text = render_yaml(V3)
    assert "llm: !new:cosyvoice.llm.llm.CosyVoice3LM" in text and "conv_pre_look_right: 4" in text
    assert "n_timesteps" not in text and "published_minimum" not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("CosyVoice3LM", "Qwen2LM"),
            r"llm has class cosyvoice\.llm\.llm\.Qwen2LM; .* checkpoint has class Co",
        ),
        (("flow.DiT.dit.DiT", "x.UNet"), r"flow\.decoder\.estimator has class cosyvoice\.x\.UNet; .* has class DiT"),
        (("conv_pre_look_right: 4", "conv_pre_look_right: 0"), "conv_pre_look_right is 0; the causal vocoder of"),
        (("mu_dim: 80", "mu_dim: 64"), r"mu_dim is 64, but flow\.input_size is 80"),
        (("\nchunk_size: 25", "\nchunk_size: 20\nother: 25"), "chunk_size is 20 tokens, which are 40"),
        (("            depth: 2", "            depth: deep"), "depth is 'deep'; expected int"),
        (("in_channels: 80\n        channels: 32", "in_channels: 64\n        channels: 32"), "in_channels is 64, but"),
        (("spk_dim: 80", "spk_dim: 80\n            long_skip_connection: True"), "long_skip_connection is True"),
    ],
)
def test_contradictions_are_named(change: tuple[str, str], message: str) -> None:
    assert change[0] in OFFICIAL
    text = OFFICIAL.replace(*change)
    if "chunk_size" in change[0]:
        text = text.replace("!ref <chunk_size> * <token_mel_ratio>", "50")
    with pytest.raises(CheckpointError, match=message):
        read(text)


@pytest.mark.parametrize("name", ["llm", "flow", "hift"])
def test_full_size_keys_and_shapes(name: str) -> None:
    with torch.device("meta"):
        network = {
            "llm": lambda: SpeechLM(V3.lm, FULL_BACKBONE),
            "flow": lambda: V3.version.flow_network(V3.flow),
            "hift": lambda: Hift(V3.hift),
        }[name]()
    found = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert found == full_size_shapes(3, name)
    assert sum(value.numel() for value in network.parameters()) > {"llm": 5e8, "flow": 3e8, "hift": 2e7}[name]


def test_the_constant_rates_may_be_left_out() -> None:
    state = tiny_state("flow", "v3")
    rates = state.pop("decoder.estimator.rotary_embed.inv_freq")
    flow = DitFlow(tiny_config().flow)
    load_strict(flow, state, "flow.pt")
    torch.testing.assert_close(flow.state_dict()["decoder.estimator.rotary_embed.inv_freq"], rates, rtol=1e-6, atol=0)
    with pytest.raises(CheckpointError, match=r"1 missing keys: decoder\.estimator\.proj_out\.bias"):
        load_strict(DitFlow(tiny_config().flow), {k: v for k, v in state.items() if "proj_out.bias" not in k}, "a")


@torch.no_grad()
def test_both_weight_norm_layouts_load() -> None:
    new = tiny_state("hift", "v3")
    names = (("parametrizations.weight.original0", "weight_g"), ("parametrizations.weight.original1", "weight_v"))
    old = new
    for found, former in names:
        old = {key.replace(found, former): value for key, value in old.items()}
    assert "conv_pre.weight_g" in old and "f0_predictor.condnet.0.weight_v" in old
    network = Hift(tiny_config().hift)
    load_strict(network, old, "hift.pt")
    wanted = tiny_hift().state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in network.state_dict().items())


def test_a_directory_of_this_layout_opens(tiny_v3: Path) -> None:
    assert CosyVoiceCheckpoint(tiny_v3).config == tiny_config()
    family = open_family(tiny_v3)
    assert family.name == "cosyvoice3" and family.causal_lm is not None
    assert family.causal_lm.vocabulary == 6761 and len(family.causal_lm.limits["stop_ids"]) == 200
    loaded = family.stage("flow_estimator").build()
    wanted = tiny_flow().state_dict()
    assert all(torch.equal(value, wanted[f"decoder.{key}"]) for key, value in loaded.state_dict().items())
