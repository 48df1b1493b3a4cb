"""Rendering of Triton configs from a description, and the check of the committed tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tritone.errors import ConfigError
from tritone.server.repository import differences, render, write
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
    return Family("toy", stages, None, (TEXT, REFERENCE), (WAVE,), silent, hosts, settings)


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
    with pytest.raises(ConfigError, match=r"step speaker needs mel, .*known: reference_wav, target_text, tokens"):
        render(toy(other), "cpu", tmp_path)


def test_first_size_must_be_the_batch(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mel: the first size of a served tensor is the batch, found 80"):
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
    expected = ["b/config.pbtxt is missing", "b/old is not rendered from anything", "a/config.pbtxt differs"]
    assert differences(files, tmp_path) == expected
    write(files, tmp_path)
    assert differences(files, tmp_path) == []
