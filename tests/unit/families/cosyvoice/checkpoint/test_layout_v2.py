"""Reading v2 checkpoints: official YAML as data, and a message for everything that can be wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.golden_weights import FULL_BACKBONE, GOLDEN, full_size_shapes, tiny_state

from tritone.audio.mel import MelConfig
from tritone.errors import CheckpointError
from tritone.families.cosyvoice.checkpoint import hyperyaml
from tritone.families.cosyvoice.checkpoint.folder import (
    YAML,
    CosyVoiceCheckpoint,
    load_config,
    load_state,
    write_checkpoint,
)
from tritone.families.cosyvoice.checkpoint.yaml_file import parse_yaml, render_yaml
from tritone.families.cosyvoice.config.common import CosyVoiceConfig, LmConfig
from tritone.families.cosyvoice.config.v2 import EncoderConfig, EstimatorConfig, FlowConfig
from tritone.families.cosyvoice.lm.v2.network import SpeechLM
from tritone.families.cosyvoice.published import V2
from tritone.families.cosyvoice.vocoder.hift import Hift

OFFICIAL = (GOLDEN / "cosyvoice_v2" / YAML).read_text()


def read(text: str) -> CosyVoiceConfig:
    return parse_yaml(text, Path("x.yaml"))


@pytest.mark.parametrize(("name", "millions"), [("llm", 500), ("flow", 100), ("hift", 20)])
def test_full_size_keys_and_shapes(name: str, millions: int) -> None:
    with torch.device("meta"):
        network = {
            "llm": lambda: SpeechLM(V2.lm, FULL_BACKBONE),
            "flow": lambda: V2.version.flow_network(V2.flow),
            "hift": lambda: Hift(V2.hift),
        }[name]()
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == full_size_shapes(2, name)
    assert sum(value.numel() for value in network.parameters()) > millions * 1e6


# --- configuration


def test_the_official_dialect_is_understood() -> None:
    config = read(OFFICIAL)
    assert config.lm == LmConfig(hidden_size=64)
    assert config.flow.encoder == EncoderConfig(linear_units=96, num_blocks=1)
    assert config.flow.estimator == EstimatorConfig(
        channels=(64,), attention_head_dim=16, n_blocks=1, num_mid_blocks=2, num_heads=4, chunk_size=50
    )
    assert config.flow.sigma_min == 1e-6 and isinstance(config.flow.sigma_min, float)
    assert (config.hift.base_channels, config.hift.f0_channels, config.hift.hop) == (32, 32, 480)
    assert config.mel == MelConfig() and config.text_frontend == "qwen"


@pytest.mark.parametrize(
    "config",
    [
        V2,
        replace(
            V2,
            text_frontend="phonemes",
            lm=LmConfig(hidden_size=256, min_token_text_ratio=0.5, max_token_text_ratio=10.0, mix_ratio=(4, 8)),
            flow=FlowConfig(
                input_size=128,
                steps=6,
                encoder=EncoderConfig(dim=128, num_up_blocks=2, left_chunks=8),
                estimator=EstimatorConfig(channels=(96,), left_chunks=4),
            ),
            mel=MelConfig(fmax=None),
        ),
    ],
)
def test_what_is_written_reads_back_equal(config: CosyVoiceConfig) -> None:
    assert read(render_yaml(config)) == config


def test_written_yaml_has_official_classes_and_no_own_keys_unless_needed() -> None:
    text = render_yaml(V2)
    assert "llm: !new:cosyvoice.llm.llm.Qwen2LM" in text and "!new:cosyvoice.hifigan.generator.HiFTGenerator" in text
    for own in ("num_up_blocks", "text_frontend", "token_text_ratio", "n_timesteps"):
        assert own not in text


def test_tags_run_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    text = (
        OFFICIAL + f"\nevil: !apply:pathlib.Path.touch [{marker}]\nworse: !new:subprocess.Popen [[touch, {marker}]]\n"
    )
    assert read(text) == read(OFFICIAL)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("expression", "value"),
    [("<a>", 6), ("<a> * <b.c>", 24), ("<a> // 4 + 1", 2), ("-(<a> - 1.5)", -4.5), ("<b[c]>", 4), ("<d> / 2", 3.0)],
)
def test_references(expression: str, value: float) -> None:
    assert hyperyaml.parse(f"a: 6\nb: {{c: 4}}\nd: !ref <a>\nx: !ref {expression}")["x"] == value


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x: !ref <nothing>", "<nothing> names a key that is not in the file"),
        ("x: !ref <x>", "refers to itself"),
        ("x: !ref __import__('os').getcwd()", "is not supported; it may have references, numbers"),
        ("x: !ref 9 ** 9", "is not supported; it may have references, numbers"),
        ("x: !ref <s> * 2", "computes with 'text', which is not a number"),
        ("x: !ref <s", "cannot read !ref"),
        ("x: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("x: [", "while parsing"),
    ],
)
def test_what_is_not_data_is_refused(line: str, message: str) -> None:
    with pytest.raises(hyperyaml.HyperYamlError, match=message.replace("*", r"\*")):
        hyperyaml.parse(f"s: text\n{line}")


def test_bad_yaml_names_the_file() -> None:
    with pytest.raises(CheckpointError, match=r"x\.yaml cannot be read: .*refers to itself"):
        read(OFFICIAL + "\nq: !ref <q>\n")
    with pytest.raises(CheckpointError, match="the file is a str, not a mapping"):
        read("hello")


def test_values_of_the_wrong_kind_are_named() -> None:
    with pytest.raises(CheckpointError, match=r"x\.yaml: linear_units is 'many'; expected int"):
        read(OFFICIAL.replace("linear_units: 96", "linear_units: many"))
    with pytest.raises(CheckpointError, match='text_frontend is \'runes\'; supported here: "qwen" or "phonemes"'):
        read(OFFICIAL + "\ntext_frontend: runes\n")


def test_another_layouts_class_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"llm has class a\.TransformerLM; a CosyVoice 2 .* has class Qwen2LM"):
        read(OFFICIAL.replace("cosyvoice.llm.llm.Qwen2LM", "a.TransformerLM"))
    with pytest.raises(CheckpointError, match="llm has no class; a CosyVoice 2 checkpoint has class Qwen2LM"):
        read("sample_rate: 24000")


# --- directories


def test_a_missing_directory_or_file_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint folder .*gone; .* needs cosyvoice2\.yaml, llm\.pt"):
        load_config(tmp_path / "gone")
    with pytest.raises(CheckpointError, match=r"has no cosyvoice2\.yaml; it has no files, and a checkpoint needs"):
        load_config(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json \(or cosyvoice\.yaml or cosyvoice3\.yaml\)\."):
        load_config(tmp_path)
    (tmp_path / YAML).write_text(OFFICIAL)
    with pytest.raises(
        CheckpointError, match=r"has no llm\.pt; it has cosyvoice2\.yaml, and a .*BlankEN/config\.json\."
    ):
        CosyVoiceCheckpoint(tmp_path)


def test_a_complete_directory_is_read(tiny_v2: Path) -> None:
    checkpoint = CosyVoiceCheckpoint(tiny_v2)
    assert checkpoint.config == read(OFFICIAL)
    assert checkpoint.backbone["hidden_size"] == 64
    state = checkpoint.state("hift")
    assert state.keys() == tiny_state("hift").keys()
    with pytest.raises(CheckpointError, match="unknown network 'vocoder'; a CosyVoice checkpoint has llm, flow, hift"):
        checkpoint.state("vocoder")


def test_generator_is_dropped_from_hift_keys_and_halves_are_widened(tmp_path: Path) -> None:
    torch.save({"generator.conv.weight": torch.ones(2, dtype=torch.float16)}, tmp_path / "hift.pt")
    state = load_state(tmp_path, "hift")
    assert list(state) == ["conv.weight"] and state["conv.weight"].dtype == torch.float32


def test_written_checkpoints_read_back(tmp_path: Path) -> None:
    config = replace(V2, text_frontend="phonemes")
    state = {"a": torch.arange(3.0), "b": torch.arange(4).reshape(2, 2).T}
    write_checkpoint(tmp_path / "new", config, {"flow": state})
    assert load_config(tmp_path / "new") == config
    found = load_state(tmp_path / "new", "flow")
    assert found.keys() == state.keys() and torch.equal(found["b"], state["b"])
    with pytest.raises(CheckpointError, match="unknown network 'gan'"):
        write_checkpoint(tmp_path / "new", config, {"gan": state})
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [YAML, "flow.pt"]
