"""The family of each version: its declarations, its rendered repository, and its host steps in a server."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from support.front_helpers import hearing, recorded, recording, text
from tritonclient.grpc import model_config_pb2 as pb

from tritone.build.artifacts import artifacts
from tritone.build.targets import for_target
from tritone.catalog import KINDS, open_family, published_family
from tritone.engines.torch import torch_call
from tritone.errors import CheckpointError, InvalidRequest
from tritone.lm.description import StageLm
from tritone.server import models
from tritone.server.models import HostModel, StreamModel
from tritone.server.repository import render
from tritone.stage import Arrays, Family

MODES = {
    1: ["sft", "zero_shot", "cross_lingual", "instruct", "vc"],
    2: ["sft", "zero_shot", "cross_lingual", "instruct2", "vc"],
    3: ["sft", "zero_shot", "cross_lingual", "instruct2", "vc"],
}


@pytest.fixture(params=[1, 2, 3])
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def folder(version: int, request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"tiny_v{version}")


def config(files: dict[str, bytes], model: str) -> pb.ModelConfig:
    return text_format.Parse(files[f"{model}/config.pbtxt"].decode(), pb.ModelConfig())


def test_the_yaml_decides_the_family(version: int, folder: Path) -> None:
    family = open_family(folder)
    assert family.name == f"cosyvoice{version}" and family.settings["modes"] == MODES[version]
    assert family.settings["sample_rate"] == (22050 if version == 1 else 24000)
    assert (family.causal_lm is None) == isinstance(family.lm, StageLm) == (version == 1)
    assert family.stage("speech_tokenizer").file == f"speech_tokenizer_v{version}.onnx"
    known = {tensor.name for tensor in family.request}
    for host in family.hosts:
        assert {tensor.name for tensor in host.inputs} <= known
        assert {family.stage(name).name for name in host.uses if name != "llm"} <= {s.name for s in family.stages}
        known |= {tensor.name for tensor in host.outputs}


def test_a_folder_of_two_versions_is_refused(tiny_v1: Path, tiny_v3: Path, tmp_path: Path) -> None:
    both = shutil.copytree(tiny_v3, tmp_path / "both")
    shutil.copyfile(tiny_v1 / "cosyvoice.yaml", both / "cosyvoice.yaml")
    with pytest.raises(CheckpointError, match=r"more than one checkpoint \(cosyvoice.yaml, cosyvoice3.yaml\)"):
        open_family(both)


def test_the_published_sizes_are_described_without_files(version: int, folder: Path) -> None:
    kind = f"cosyvoice{version if version > 1 else ''}.yaml"
    (known,) = (one for one in KINDS if one.name == kind)
    described, family = published_family(known), open_family(folder)
    assert described.name == family.name
    assert [stage.name for stage in described.stages] == [stage.name for stage in family.stages]
    for target in ("cpu", "gpu"):
        chosen = for_target(target)
        assert [a.key for a in artifacts(described, chosen)] == [a.key for a in artifacts(family, chosen)]
    with pytest.raises(CheckpointError, match="described without a checkpoint; it has no weights"):
        described.stage("vocoder").build()
    with pytest.raises(CheckpointError, match="it has no weights"):
        next(described.synthesize(None, None, {}))


@pytest.mark.parametrize("target", ["cpu", "gpu", "stages"])
def test_every_repository_has_the_entries_and_the_published_tensors(version: int, folder: Path, target: str) -> None:
    family = open_family(folder)
    files = render(family, target)
    for entry in (family.name, f"{family.name}_stream"):
        found = config(files, entry)
        kinds = {tensor.name: (tensor.data_type, list(tensor.dims), tensor.optional) for tensor in found.input}
        assert kinds["reference_wav"] == (pb.TYPE_FP32, [-1], True)
        assert kinds["reference_wav_len"] == (pb.TYPE_INT32, [1], True)
        assert kinds["reference_text"] == kinds["target_text"] == kinds["mode"] == (pb.TYPE_STRING, [1], True)
        assert [(t.name, t.data_type, list(t.dims)) for t in found.output] == [("waveform", pb.TYPE_FP32, [-1])]
    llm = config(files, f"{family.name}_llm").parameters
    assert ("llm" in llm) == (target == "gpu" and version > 1)
    tokenizer, embedder = config(files, "speech_tokenizer"), config(files, "speaker_embedding")
    assert [(t.name, t.data_type) for t in tokenizer.output] == [("prompt_speech_tokens", pb.TYPE_INT32)]
    assert [(t.name, t.data_type) for t in embedder.output] == [("prompt_spk_embedding", pb.TYPE_FP16)]


def test_chunks_of_streams_run_before_whole_utterances(version: int, folder: Path) -> None:
    family = open_family(folder)
    assert config(render(family, "cpu"), f"{family.name}_llm").instance_group[0].count == 2
    files = render(family, "gpu")
    assert config(files, f"{family.name}_llm").instance_group[0].count == 4
    limits = {stage.name: config(files, f"{family.name}_stage_{stage.name}").instance_group[0].rate_limiter
              for stage in family.stages}  # fmt: skip
    shared = {name for name, limiter in limits.items() if limiter.resources}
    assert shared == {stage.name for stage in family.stages if stage.build}
    alone = {name for name in shared if limits[name].priority == 2}
    assert alone == (set() if version == 1 else {"flow_encoder", "flow_estimator"})
    units = {name: [(entry.name, entry.count) for entry in limits[name].resources] for name in shared}
    assert units == {name: [("compute", 2 if name in alone else 1)] for name in shared}


def listening(family: Family, version: int) -> object:
    networks, ears = torch_call(family.stages), hearing(recorded(version)["llm_prompt_speech_token"])

    def call(stage_name: str, **arrays: np.ndarray) -> Arrays:
        return (ears if stage_name in ("speech_tokenizer", "speaker_embedding") else networks)(stage_name, **arrays)

    return call


def test_a_step_counts_the_tokens_of_a_language_model_made_of_stages(
    tiny_v1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "open_call", lambda *_: listening(open_family(tiny_v1), 1))
    monkeypatch.setattr(models, "genai_llm", lambda *_, **__: pytest.fail("asked for another language model"))
    monkeypatch.setattr(StreamModel, "warm_up", lambda _self: None)
    counted: list[int] = []
    values = {"step": "stream", "model_dir": str(tiny_v1), "build_dir": "unused"}
    step = StreamModel(values, lambda: counted.append(1))
    request = {"target_text": text("Hi."), "speaker": text("a")}
    samples = sum(len(chunk) for chunk in step.stream(request))
    frames = samples / 256
    assert len(counted) == pytest.approx(frames * 50 / (22050 / 256), abs=2)


def test_what_hears_is_served_alone(version: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = open_family(folder)
    monkeypatch.setattr(models, "open_call", lambda *_: listening(family, version))
    monkeypatch.setattr(HostModel, "warm_up", lambda _self: None)
    tokenizer, embedder = (
        HostModel({"step": name, "model_dir": str(folder), "build_dir": "unused"})
        for name in ("speech_tokenizer", "speaker_embedding")
    )
    good, short = recording(32000), recording(1000)
    tokens, refused = tokenizer.run([good, short])
    np.testing.assert_array_equal(tokens["prompt_speech_tokens"], recorded(version)["llm_prompt_speech_token"])
    assert tokens["prompt_speech_tokens"].dtype == np.int32
    assert isinstance(refused, InvalidRequest) and "reference_wav: too short: 0.06 s" in str(refused)
    embedding = embedder.run([{"reference_wav": good["reference_wav"]}])[0]["prompt_spk_embedding"]
    assert (embedding.dtype, embedding.shape) == (np.float16, (1, 192)) and np.abs(embedding).max() > 0.1
    missing = embedder.run([{}])[0]
    assert str(missing) == (
        "INVALID_ARGUMENT: reference_wav: is missing; send the recording as float32 samples at 16 kHz"
    )
