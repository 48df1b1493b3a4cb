"""Rendering of Triton configs from a description, and the check of the committed tree."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tritone.catalog import open_family
from tritone.errors import ConfigError
from tritone.lm.description import CausalLm, NoLm
from tritone.server.repository import REPOSITORY, TARGETS, differences, render, write
from tritone.stage import Axis, Family, Host, Stage, Tensor

WORDS = Axis("words", 1, 5, 50)
TEXT = Tensor("target_text", "bytes", (1, 1))
REFERENCE = Tensor("reference_wav", "float32", (1, Axis("samples", 1, 5, 50)), optional=True)
TOKENS = Tensor("tokens", "int64", (1, WORDS))
WAVE = Tensor("waveform", "float32", (1, Axis("wave", 1, 5, 50)))


def silent(*_arguments: object) -> Iterator[np.ndarray]:
    return iter(())


def toy(second_input: Tensor = TOKENS) -> Family:
    hosts = (
        Host("reader", (TEXT, REFERENCE), (TOKENS,), lambda _call, _llm, requests: requests, ("single",)),
        Host("speaker", (second_input,), (WAVE,), lambda _call, _llm, requests: requests, ("batched",)),
    )
    stages = (
        Stage("single", (Tensor("x", "float32", (1, WORDS)),), (WAVE,), None),
        Stage("batched", (Tensor("x", "float32", (Axis("batch", 1, 1, 8), WORDS)),), (WAVE,), None),
    )
    settings = {"sample_rate": 16000, "speakers": ["ann", "bob"]}
    llm = CausalLm("llm", 8, 1, {}, lambda: None, lambda how: None)
    return Family("toy", stages, llm, (TEXT, REFERENCE), (WAVE,), silent, hosts, settings)


def config(files: dict[str, bytes], model: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(files[f"{model}/config.pbtxt"].decode(), model_config_pb2.ModelConfig())


def test_every_step_the_ensemble_and_the_stream_are_rendered(tmp_path: Path) -> None:
    files = render(toy(), "cpu", tmp_path)
    assert {name.split("/")[0] for name in files} == {"toy", "toy_stream", "toy_reader", "toy_speaker"}
    assert files["toy_reader/1/model.py"] == files["toy_stream/1/model.py"]
    assert render(toy(), "cpu", tmp_path) == files


def test_tensors_become_dims_without_the_batch(tmp_path: Path) -> None:
    reader = config(render(toy(), "cpu", tmp_path), "toy_reader")
    text, reference = reader.input
    assert (text.data_type, list(text.dims)) == (model_config_pb2.TYPE_STRING, [1])
    assert (reference.data_type, list(reference.dims)) == (model_config_pb2.TYPE_FP32, [-1])
    assert reference.allow_ragged_batch and not text.allow_ragged_batch and reader.max_batch_size > 1


def test_only_the_steps_may_refuse_a_missing_input(tmp_path: Path) -> None:
    files = render(toy(), "cpu", tmp_path)
    assert all(tensor.optional for model in ("toy", "toy_reader") for tensor in config(files, model).input)
    assert [tensor.optional for tensor in config(files, "toy_speaker").input] == [False]
    assert [tensor.optional for tensor in config(files, "toy_stream").input] == [False, True]


def test_batching_is_on_only_where_every_stage_takes_a_batch(tmp_path: Path) -> None:
    files = render(toy(), "cpu", tmp_path)
    on = {name for name in ("toy_reader", "toy_speaker") if config(files, name).HasField("dynamic_batching")}
    assert on == {"toy_speaker"}


@pytest.mark.parametrize(("stage", "together"), [("single", False), ("batched", True)])
def test_language_model_runs_in_several_instances_unless_it_takes_batches(
    stage: str, together: bool, tmp_path: Path
) -> None:
    reader = replace(toy().hosts[0], uses=("llm", stage))
    for target, instances in (("cpu", 2), ("gpu", 4)):
        rendered = config(render(replace(toy(), hosts=(reader, toy().hosts[1])), target, tmp_path), "toy_reader")
        assert rendered.instance_group[0].count == (1 if together else instances)
        assert rendered.dynamic_batching.max_queue_delay_microseconds == (20000 if together else 0)


def test_no_path_of_this_machine_is_rendered(tmp_path: Path) -> None:
    reader = config(render(toy(), "cpu", tmp_path), "toy_reader")
    assert reader.parameters["model_dir"].string_value == "${TRITONE_MODEL_DIR}"
    assert reader.parameters["build_dir"].string_value == "${TRITONE_BUILD_DIR}"


def test_ensemble_joins_steps_by_tensor_name(tmp_path: Path) -> None:
    ensemble = config(render(toy(), "cpu", tmp_path), "toy")
    first, second = ensemble.ensemble_scheduling.step
    assert dict(first.input_map) == {"target_text": "target_text", "reference_wav": "reference_wav"}
    assert dict(second.input_map) == {"tokens": "tokens"}
    assert dict(second.output_map) == {"waveform": "waveform"}


def test_stream_is_decoupled(tmp_path: Path) -> None:
    assert config(render(toy(), "cpu", tmp_path), "toy_stream").model_transaction_policy.decoupled


def test_entries_publish_the_settings(tmp_path: Path) -> None:
    files = render(toy(), "cpu", tmp_path)
    for entry in ("toy", "toy_stream"):
        parameters = config(files, entry).parameters
        assert parameters["sample_rate"].string_value == "16000"
        assert parameters["speakers"].string_value == '["ann", "bob"]'


def test_unconnected_step_is_an_error_that_lists_what_is_known(tmp_path: Path) -> None:
    other = Tensor("mel", "float32", (1, 80))
    with pytest.raises(ConfigError, match=r"host step speaker needs mel, .*known: reference_wav, target_text, tokens"):
        render(toy(other), "cpu", tmp_path)


def test_first_size_must_be_the_batch(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mel: the first size of a served tensor must be the batch, but is 80"):
        render(toy(Tensor("mel", "float32", (80, WORDS))), "cpu", tmp_path)


def test_override_texts_are_merged_last(tmp_path: Path) -> None:
    (tmp_path / "toy_speaker.pbtxt").write_text(
        'instance_group { count: 3 kind: KIND_CPU } parameters { key: "threads" value { string_value: "2" } }'
    )
    speaker = config(render(toy(), "cpu", tmp_path), "toy_speaker")
    assert [group.count for group in speaker.instance_group] == [3]
    assert speaker.parameters["threads"].string_value == "2"
    assert speaker.parameters["step"].string_value == "speaker"


def test_override_that_is_no_config_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "toy.pbtxt").write_text("no_such_field: 1")
    with pytest.raises(ConfigError, match=r"toy\.pbtxt is not a Triton model config"):
        render(toy(), "cpu", tmp_path)


def test_override_of_no_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "toy_typo.pbtxt").write_text("")
    with pytest.raises(ConfigError, match=r"toy_typo\.pbtxt .* toy_reader"):
        render(toy(), "cpu", tmp_path)


def test_check_tells_stale_missing_and_left_over_files(tmp_path: Path) -> None:
    files = {"a/config.pbtxt": b"1", "b/config.pbtxt": b"2"}
    write(files, tmp_path)
    assert differences(files, tmp_path) == []
    (tmp_path / "a/config.pbtxt").write_text("x")
    (tmp_path / "b/config.pbtxt").rename(tmp_path / "b/old")
    expected = ["b/config.pbtxt is missing", "b/old is not a rendered file", "a/config.pbtxt differs"]
    assert differences(files, tmp_path) == expected
    write(files, tmp_path)
    assert differences(files, tmp_path) == []


BATCH = Axis("batch", 1, 1, 8)
FRAMES = Axis("frames", 4, 20, 100)
MEL = Tensor("mel", "float32", (BATCH, 80, FRAMES))
LENGTH = Tensor("mel_len", "int32", (BATCH,), length_of=FRAMES)
STAGED = (
    Stage("vocoder", (MEL, LENGTH), (Tensor("waveform", "float32", (BATCH, FRAMES)),), None),
    Stage("decoder", (MEL, Tensor("chunk_size", "int64", (1,), (5, 6))), (MEL,), None),
)


def staged(target: str, folder: Path) -> dict[str, bytes]:
    return render(replace(toy(), stages=(*toy().stages, *STAGED)), target, folder)


def test_gpu_target_has_the_cpu_targets_models_and_tensors_and_one_model_per_stage(tmp_path: Path) -> None:
    cpu, gpu = staged("cpu", tmp_path), staged("gpu", tmp_path)
    names = {name.split("/")[0] for name in cpu}
    assert {name.split("/")[0] for name in gpu} - names == {
        f"toy_stage_{stage}" for stage in ("single", "batched", "vocoder", "decoder")
    }
    for name in names:
        ours, theirs = config(cpu, name), config(gpu, name)
        assert (ours.input, ours.output) == (theirs.input, theirs.output), name
        assert ours.ensemble_scheduling == theirs.ensemble_scheduling
        assert ours.model_transaction_policy == theirs.model_transaction_policy


def test_steps_are_told_how_their_stages_and_language_model_run(tmp_path: Path) -> None:
    reader = {target: config(staged(target, tmp_path), "toy_reader").parameters for target in TARGETS}
    assert {target: found["stages"].string_value for target, found in reader.items()} == {
        "cpu": "onnxruntime", "gpu": "triton", "stages": "triton",
    }  # fmt: skip
    assert reader["gpu"]["llm"].string_value == "served"
    assert reader["gpu"]["llm_url"].string_value == "${TRITONE_LLM_URL}"
    assert "llm" not in reader["cpu"] and "llm" not in reader["stages"]
    without = render(replace(toy(), lm=NoLm()), "gpu", tmp_path)
    assert not any("llm" in key for key in config(without, "toy_reader").parameters)


def test_stage_whose_tensors_carry_a_batch_is_batched_by_triton(tmp_path: Path) -> None:
    vocoder = config(staged("gpu", tmp_path), "toy_stage_vocoder")
    assert (vocoder.platform, vocoder.default_model_filename) == ("tensorrt_plan", "model.plan")
    assert vocoder.max_batch_size == 8
    assert list(vocoder.dynamic_batching.preferred_batch_size) == [2, 4, 8]
    assert vocoder.dynamic_batching.max_queue_delay_microseconds == 500
    assert {tensor.name: list(tensor.dims) for tensor in vocoder.input} == {"mel": [80, -1], "mel_len": [1]}
    # A plan takes the lengths as [batch]; Triton knows no tensor without a size besides the batch.
    assert [tensor.HasField("reshape") for tensor in vocoder.input] == [False, True]
    assert not vocoder.input[1].reshape.shape
    assert vocoder.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU


def test_stage_with_a_tensor_that_has_no_batch_takes_its_shapes_as_they_are(tmp_path: Path) -> None:
    decoder = config(staged("gpu", tmp_path), "toy_stage_decoder")
    assert decoder.max_batch_size == 0 and not decoder.HasField("dynamic_batching")
    assert {tensor.name: list(tensor.dims) for tensor in decoder.input} == {"mel": [-1, 80, -1], "chunk_size": [1]}
    assert config(staged("gpu", tmp_path), "toy_stage_single").max_batch_size == 0


def test_warm_up_runs_the_usual_sizes_with_valid_ids_and_lengths(tmp_path: Path) -> None:
    files = staged("gpu", tmp_path)
    vocoder, decoder = (config(files, f"toy_stage_{name}").model_warmup[0] for name in ("vocoder", "decoder"))
    assert (vocoder.batch_size, decoder.batch_size) == (1, 0)
    assert list(vocoder.inputs["mel"].dims) == [80, 20] and vocoder.inputs["mel"].zero_data
    assert list(decoder.inputs["mel"].dims) == [1, 80, 20]
    assert vocoder.inputs["mel_len"].input_data_file == "mel_len"
    assert np.frombuffer(files["toy_stage_vocoder/warmup/mel_len"], np.int32).tolist() == [20]
    assert np.frombuffer(files["toy_stage_decoder/warmup/chunk_size"], np.int64).tolist() == [5]


def test_ids_warm_up_on_zeros(tmp_path: Path) -> None:
    ids = Stage("ids", (Tensor("token", "int64", (BATCH, FRAMES), (0, 50)),), (MEL,), None)
    files = render(replace(toy(), stages=(*toy().stages, ids)), "gpu", tmp_path)
    assert config(files, "toy_stage_ids").model_warmup[0].inputs["token"].zero_data
    assert not any(name.startswith("toy_stage_ids/warmup") for name in files)


def test_stages_without_a_gpu_differ_from_the_gpu_targets_in_their_backend_alone(tmp_path: Path) -> None:
    for name in ("toy_stage_vocoder", "toy_stage_decoder"):
        gpu, python = config(staged("gpu", tmp_path), name), config(staged("stages", tmp_path), name)
        assert python.backend == "python" and python.parameters["step"].string_value == name.replace(
            "toy_stage_", "stage:"
        )
        for found in (gpu, python):
            for field in ("platform", "backend", "default_model_filename", "instance_group", "parameters"):
                found.ClearField(field)
        assert gpu == python


def test_unknown_target_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown target 'tpu'; the targets are cpu, gpu, stages"):
        render(toy(), "tpu", tmp_path)


@pytest.mark.parametrize("target", [name for name, target in TARGETS.items() if target.committed])
def test_committed_configs_are_tritons_and_name_their_folder(target: str) -> None:
    """Parsed by the protobuf of the client; every file a config points at is there, except engines."""
    paths = sorted((REPOSITORY / target).glob("*/config.pbtxt"))
    assert len(paths) >= 7
    for path in paths:
        found = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        assert found.name == path.parent.name
        assert (path.parent / "1").is_dir()
        for sample in found.model_warmup:
            for name, entry in sample.inputs.items():
                if entry.input_data_file:
                    width = {model_config_pb2.TYPE_INT32: 4, model_config_pb2.TYPE_INT64: 8}[entry.data_type]
                    size = (path.parent / "warmup" / entry.input_data_file).stat().st_size
                    assert size == width * int(np.prod(entry.dims)), f"{path}: {name}"


def test_training_again_changes_no_config(tiny_v2: Path, tmp_path: Path) -> None:
    """Configs come from the checkpoint's own configuration, so that other weights need no other repository."""
    before = render(open_family(tiny_v2), "gpu")
    copy = tmp_path / "again"
    shutil.copytree(tiny_v2, copy)
    for weights in ("flow.pt", "hift.pt", "llm.pt"):
        (copy / weights).write_bytes(b"other weights")
    assert render(open_family(copy), "gpu") == before
