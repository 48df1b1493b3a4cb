"""Parts of Triton model configs, built as Triton's own protobuf messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from tritone.errors import ConfigError
from tritone.stage import Axis, Tensor

DTYPES = {
    "bytes": pb.TYPE_STRING, "float32": pb.TYPE_FP32, "float16": pb.TYPE_FP16, "int32": pb.TYPE_INT32,
    "int64": pb.TYPE_INT64, "bool": pb.TYPE_BOOL,
}  # fmt: skip
MAX_BATCH = 4
"""Most utterances in one batch: memory grows with the longest, and two cores are no faster with more."""


def python_model(
    name: str,
    step: str,
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    parameters: Mapping[str, str],
) -> pb.ModelConfig:
    """Return the config common to Python models: tensors, one CPU instance, and parameters with the paths."""
    config = pb.ModelConfig(name=name, backend="python", max_batch_size=MAX_BATCH)
    declare(config, inputs, outputs)
    one_on_cpu(config, step, parameters)
    return config


def one_on_cpu(config: pb.ModelConfig, step: str, parameters: Mapping[str, str]) -> None:
    """Add one CPU instance, and the parameters that say which host step or stage it runs, and how."""
    config.instance_group.add(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)
    places = {"model_dir": "${TRITONE_MODEL_DIR}", "build_dir": "${TRITONE_BUILD_DIR}"}
    for key, value in {"step": step, **places, **parameters}.items():
        config.parameters[key].string_value = value


def publish(config: pb.ModelConfig, settings: Mapping[str, Any]) -> None:
    """Add the settings that clients read from an entry's config: numbers and words as they are, lists as JSON."""
    for key, value in sorted(settings.items()):
        config.parameters[key].string_value = str(value) if isinstance(value, str | int | float) else json.dumps(value)


def declare(config: pb.ModelConfig, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
    """Add inputs and outputs without the batch; sizes that vary become -1 and may differ within a batch."""
    for tensor in inputs:
        sizes = dims(tensor)
        config.input.add(
            name=tensor.name, data_type=DTYPES[tensor.dtype], dims=sizes, optional=tensor.optional,
            allow_ragged_batch=-1 in sizes,
        )  # fmt: skip
    for tensor in outputs:
        config.output.add(name=tensor.name, data_type=DTYPES[tensor.dtype], dims=dims(tensor))


def dims(tensor: Tensor) -> list[int]:
    """Return Triton's dims of a tensor: its sizes without the batch, -1 for every size that varies."""
    batch = tensor.shape[0]
    if not (batch == 1 or isinstance(batch, Axis)):
        raise ConfigError(f"{tensor.name}: the first size of a served tensor must be the batch, but is {batch}")
    return [dim if isinstance(dim, int) else -1 for dim in tensor.shape[1:]]


def merge(config: pb.ModelConfig, text: Path) -> None:
    """Merge an override text: its singular fields win, its `instance_group` replaces the rendered one."""
    try:
        override = text_format.Parse(text.read_text(), pb.ModelConfig())
    except text_format.ParseError as error:
        raise ConfigError(f"{text} is not a Triton model config: {error}") from error
    for field, _ in override.ListFields():
        if field.name == "instance_group":
            config.ClearField(field.name)
    config.MergeFrom(override)
