"""The stages under their published names, what tells the checkpoint, what is refused, and the rendered repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from support.bert_vits2.folder import SPEAKERS, write_tiny
from support.bert_vits2.tiny import tiny_generator
from tritonclient.grpc import model_config_pb2 as pb

from tritone import serve
from tritone.build import hashes, identity
from tritone.build.artifacts import artifacts
from tritone.build.targets import Selection
from tritone.catalog import KINDS, open_family, published_family
from tritone.engines.torch import torch_call
from tritone.errors import CheckpointError, ConfigError
from tritone.families.bert_vits2.compress import main as compress
from tritone.families.bert_vits2.family import family
from tritone.families.bert_vits2.locate import generator_file
from tritone.families.bert_vits2.networks.stage_modules import Waveform
from tritone.load import load_model
from tritone.nn.weight_norm import fold_weight_norm
from tritone.server.repository import render
from tritone.stage import Family

STAGES = ["emb", "enc_p", "sdp", "dp", "flow", "dec"]
INPUTS = {
    "emb": ["sid"],
    "enc_p": ["x", "x_lengths", "t", "language", "bert_0", "bert_1", "bert_2", "g"],
    "sdp": ["x", "x_lengths", "zin", "g"],
    "dp": ["x", "x_lengths", "g"],
    "flow": ["z_p", "y_lengths", "g"],
    "dec": ["z_in", "g"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("bert_vits2") / "tiny")


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Family:
    return open_family(folder)


def test_the_stages_have_the_published_names_and_a_batch(tiny: Family) -> None:
    assert {stage.name: [tensor.name for tensor in stage.inputs] for stage in tiny.stages} == INPUTS
    call = torch_call(tiny.stages)
    for stage in tiny.stages:
        sizes = {
            axis.name: {"batch": 3, "phones": 7, "frames": 9, "window_frames": 11}[axis.name] for axis in stage.axes
        }
        found = call(stage.name, **stage.example(sizes))
        for tensor in stage.outputs:
            assert found[tensor.name].shape == tensor.sizes(sizes), (stage.name, tensor.name)
            assert np.isfinite(found[tensor.name]).all() and found[tensor.name].dtype == np.float32


def test_the_flat_decoder_computes_what_the_decoder_computes() -> None:
    generator = fold_weight_norm(tiny_generator())
    z, g = torch.randn(2, 8, 23), torch.randn(2, 12, 1)
    with torch.inference_mode():
        flat, expected = Waveform(generator)(z, g), generator.dec(z, g)[:, 0]
    assert flat.shape == expected.shape == (2, 23 * 32)
    torch.testing.assert_close(flat, expected, rtol=0, atol=1e-6)


def test_the_newest_generator_speaks_unless_one_is_named(tmp_path: Path) -> None:
    for step in (900, 1000, 99):
        write_tiny(tmp_path, step)
    (tmp_path / "G_latest.pth").write_bytes(b"")
    assert generator_file(tmp_path).name == "G_1000.pth"
    (tmp_path / "G_1000.pth").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"G_1000.pth"):
        torch_call(family(tmp_path).stages).module("dp")
    torch_call(family(tmp_path, tmp_path / "G_99.pth").stages).module("dp")


def test_the_published_sizes_are_listed_without_files(tiny: Family) -> None:
    (kind,) = (kind for kind in KINDS if "bert_vits2" in kind.module)
    described = published_family(kind)
    assert [stage.name for stage in described.stages] == STAGES == [stage.name for stage in tiny.stages]
    assert described.causal_lm is None and described.settings["sample_rate"] == 44100
    everything = Selection(("torchscript", "onnx", "tensorrt", "llm"), ("fp32", "fp16"))
    assert [a.key for a in artifacts(described, everything)] == [a.key for a in artifacts(tiny, everything)]
    with pytest.raises(CheckpointError, match="described without a checkpoint; it has no weights"):
        described.stage("dec").build()  # type: ignore[misc]


def config(files: dict[str, bytes], model: str) -> pb.ModelConfig:
    return text_format.Parse(files[f"{model}/config.pbtxt"].decode(), pb.ModelConfig())


def test_the_repository_has_the_ensemble_and_the_stream_and_no_language_model(tiny: Family) -> None:
    files = render(tiny, "cpu")
    ensemble = config(files, "bert_vits2")
    steps = [step.model_name.removeprefix("bert_vits2_") for step in ensemble.ensemble_scheduling.step]
    assert steps == ["text_encoder", "duration", "flow", "decoder"]
    stream = config(files, "bert_vits2_stream")
    assert stream.model_transaction_policy.decoupled
    for entry in (ensemble, stream):
        names = {tensor.name for tensor in entry.input}
        assert {"target_text", "speaker", "language", "sdp_ratio", "noise_scale", "length_scale", "seed"} <= names
        assert json.loads(entry.parameters["speakers"].string_value) == list(SPEAKERS)
    assert all(config(files, f"bert_vits2_{step}").HasField("dynamic_batching") for step in steps)
    gpu = render(tiny, "gpu")
    assert {f"bert_vits2_stage_{name}/config.pbtxt" for name in STAGES} <= set(gpu)
    assert not any("llm" in key for name in steps for key in config(gpu, f"bert_vits2_{name}").parameters)
    # Every tensor of every stage carries the batch, so Triton may group requests.
    assert all(config(gpu, f"bert_vits2_stage_{name}").max_batch_size == 4 for name in STAGES)


def test_compressed_it_speaks_the_same_and_is_half_the_size(folder: Path, tmp_path: Path, capsys: Any) -> None:
    assert compress([str(folder), str(tmp_path / "small")]) == 0
    small = tmp_path / "small" / "G_300.pth"
    assert str(small) in capsys.readouterr().out
    assert small.stat().st_size < 0.6 * (folder / "G_300.pth").stat().st_size
    assert not any(key.startswith("enc_q.") for key in torch.load(small, weights_only=True)["model"])
    said: dict[str, Any] = {"phones": "_ hh ay _", "tones": "0 3 2 0", "word2ph": "1 2 1", "language": "EN"}
    waves = [load_model(where).synthesize("", sdp_ratio=0.0, **said) for where in (folder, small.parent)]
    assert abs(waves[0].size - waves[1].size) <= 32 * 9  # half precision may move a duration by a frame
    assert compress([str(folder), str(small.parent)]) == 1
    assert "already has G_300.pth; choose another folder" in capsys.readouterr().err


def test_the_generator_is_part_of_the_checkpoints_identity(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "tiny")
    before = identity.checkpoint_hash(family(folder), folder, hashes.Hashes(tmp_path / "a.json"))
    (folder / "G_300.pth").write_bytes(b"another")
    assert identity.checkpoint_hash(family(folder), folder, hashes.Hashes(tmp_path / "b.json")) != before


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        ({"hop_length": 64}, ConfigError, "upsample_rates multiply to 32, but data.hop_length is 64"),
        ({"spk2id": {"anna": 9}}, ConfigError, "spk2id goes up to 9, but n_speakers is 5"),
        ({"sampling": 1}, ConfigError, "data has unknown keys: sampling; the known keys are"),
    ],
)
def test_what_contradicts_itself_is_refused_when_opened(
    data: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        open_family(write_tiny(tmp_path / "tiny", **data))


def test_a_folder_with_half_a_checkpoint_says_which_half(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "tiny")
    (folder / "G_300.pth").rename(folder / "D_300.pth")
    with pytest.raises(CheckpointError, match=r"has no generator: .* found D_300.pth, config.json"):
        open_family(folder)
    (folder / "D_300.pth").rename(folder / "G_300.pth")
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="is not valid JSON"):
        open_family(folder)


@pytest.mark.parametrize("content", ["not a checkpoint", "cut"])
def test_serving_a_damaged_generator_ends_with_a_sentence(content: str, tmp_path: Path, capfd: Any) -> None:
    folder = write_tiny(tmp_path / "tiny")
    whole = (folder / "G_300.pth").read_bytes()
    (folder / "G_300.pth").write_bytes(whole[: len(whole) // 2] if content == "cut" else content.encode())
    assert serve.main([str(folder), "--build-dir", str(tmp_path / "build"), "--check"]) == 1
    output = capfd.readouterr().err
    assert "G_300.pth" in output and "Traceback" not in output
