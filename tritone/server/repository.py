"""A checkpoint's Triton model repository: one folder per step, the ensemble, and the streaming entry.

Configs are built as Triton's own protobuf messages from the stage description; texts in
`model_repository/overrides/<target>/` are merged last.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from tritone.errors import ConfigError
from tritone.stage import Axis, Family, Host, Tensor

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = ROOT / "model_repository"
HEADER = "# Rendered by export/repository.py; edit model_repository/overrides/ and render again.\n"
DTYPES = {
    "bytes": pb.TYPE_STRING, "float32": pb.TYPE_FP32, "float16": pb.TYPE_FP16, "int32": pb.TYPE_INT32,
    "int64": pb.TYPE_INT64, "bool": pb.TYPE_BOOL,
}  # fmt: skip
MAX_BATCH = 4
"""Utterances run together at most; memory grows with the longest of them, and two cores gain nothing beyond."""


def render(family: Family, target: str, overrides: Path | None = None) -> dict[str, bytes]:
    """Every file of the family's repository by relative path.

    Args:
        overrides: folder of `<model>.pbtxt` texts merged into the rendered configs (default: the target's own).
    """
    folder = REPOSITORY / "overrides" / target if overrides is None else overrides
    steps = {f"{family.name}_{host.name}": step(family, host) for host in family.hosts}
    configs = {**steps, family.name: ensemble(family), f"{family.name}_stream": stream(family)}
    for text in sorted(folder.glob(f"{family.name}*.pbtxt")):
        if text.stem not in configs:
            raise ConfigError(f"{text} overrides no model; the models are {', '.join(sorted(configs))}")
    glue = (REPOSITORY / "glue" / "model.py").read_bytes()
    files: dict[str, bytes] = {}
    for name, config in configs.items():
        text = folder / f"{name}.pbtxt"
        if text.is_file():
            merge(config, text)
        files[f"{name}/config.pbtxt"] = (HEADER + text_format.MessageToString(config)).encode()
        files[f"{name}/1/.gitkeep" if config.platform == "ensemble" else f"{name}/1/model.py"] = (
            b"" if config.platform == "ensemble" else glue
        )
    return files


def merge(config: pb.ModelConfig, text: Path) -> None:
    """Merge a raw text override; its singular fields win, its `instance_group` replaces the rendered one."""
    try:
        override = text_format.Parse(text.read_text(), pb.ModelConfig())
    except text_format.ParseError as error:
        raise ConfigError(f"{text} is not a Triton model config: {error}") from error
    for field, _ in override.ListFields():
        if field.name == "instance_group":
            config.ClearField(field.name)
    config.MergeFrom(override)


def step(family: Family, host: Host) -> pb.ModelConfig:
    """A Python model that runs one host step on a list of requests."""
    asked = {tensor.name for tensor in family.request}
    inputs = tuple(replace(tensor, optional=tensor.optional or tensor.name in asked) for tensor in host.inputs)
    config = python_model(f"{family.name}_{host.name}", host.name, inputs, host.outputs)
    if batches(family, host):
        config.dynamic_batching.SetInParent()
    return config


def batches(family: Family, host: Host) -> bool:
    """True when requests gain from being grouped: all the step's stages take a batch, and none decodes a sequence."""
    stages = [family.stage(name) for name in host.uses if name != "llm"]
    return bool(stages) and "llm" not in host.uses and all(isinstance(s.inputs[0].shape[0], Axis) for s in stages)


def stream(family: Family) -> pb.ModelConfig:
    """The decoupled entry that runs the streaming order of calls."""
    config = python_model(f"{family.name}_stream", "stream", family.request, family.response)
    config.model_transaction_policy.decoupled = True
    config.parameters["streams"].string_value = "16"
    publish(config, family)
    return config


def python_model(name: str, step_name: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> pb.ModelConfig:
    """What every Python model has: tensors, one CPU instance, and where its checkpoint and exports are."""
    config = pb.ModelConfig(name=name, backend="python", max_batch_size=MAX_BATCH)
    declare(config, inputs, outputs)
    config.instance_group.add(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)
    parameters = {"step": step_name, "model_dir": "${TRITONE_MODEL_DIR}", "build_dir": "${TRITONE_BUILD_DIR}"}
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    return config


def publish(config: pb.ModelConfig, family: Family) -> None:
    """Add what a client may ask an entry about: numbers and words as they are, lists as JSON."""
    for key, value in sorted(family.settings.items()):
        config.parameters[key].string_value = str(value) if isinstance(value, str | int | float) else json.dumps(value)


def ensemble(family: Family) -> pb.ModelConfig:
    """The true ensemble: every host step in order, joined by tensor names.

    All its inputs may be left out: for a missing one an ensemble would report a deadlock, while the step that reads it
    names the field.
    """
    config = pb.ModelConfig(name=family.name, platform="ensemble", max_batch_size=MAX_BATCH)
    declare(config, tuple(replace(tensor, optional=True) for tensor in family.request), family.response)
    publish(config, family)
    known = {tensor.name for tensor in family.request}
    for host in family.hosts:
        missing = [tensor.name for tensor in host.inputs if tensor.name not in known]
        if missing:
            raise ConfigError(
                f"{family.name}: step {host.name} needs {', '.join(missing)}, which no earlier step gives; "
                f"known: {', '.join(sorted(known))}"
            )
        entry = config.ensemble_scheduling.step.add(model_name=f"{family.name}_{host.name}", model_version=-1)
        for tensor in host.inputs:
            entry.input_map[tensor.name] = tensor.name
        for tensor in host.outputs:
            entry.output_map[tensor.name] = tensor.name
            known.add(tensor.name)
    return config


def declare(config: pb.ModelConfig, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
    """Add inputs and outputs; the first size is the batch, sizes that vary become -1 and may differ within a batch."""
    for tensor in inputs:
        sizes = dims(tensor)
        config.input.add(
            name=tensor.name, data_type=DTYPES[tensor.dtype], dims=sizes, optional=tensor.optional,
            allow_ragged_batch=-1 in sizes,
        )  # fmt: skip
    for tensor in outputs:
        config.output.add(name=tensor.name, data_type=DTYPES[tensor.dtype], dims=dims(tensor))


def dims(tensor: Tensor) -> list[int]:
    """Triton's dims of a tensor: without the batch, -1 for every size that varies."""
    batch = tensor.shape[0]
    if not (batch == 1 or isinstance(batch, Axis)):
        raise ConfigError(f"{tensor.name}: the first size of a served tensor is the batch, found {batch}")
    return [dim if isinstance(dim, int) else -1 for dim in tensor.shape[1:]]


def differences(files: dict[str, bytes], folder: Path) -> list[str]:
    """What differs between the rendered files and the folder, one phrase each."""
    found = {
        str(path.relative_to(folder)): path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    lines = [f"{name} is missing" for name in sorted(files.keys() - found.keys())]
    lines += [f"{name} is not rendered from anything" for name in sorted(found.keys() - files.keys())]
    lines += [
        f"{name} differs" for name in sorted(files.keys() & found.keys()) if found[name].read_bytes() != files[name]
    ]
    return lines


def write(files: dict[str, bytes], folder: Path) -> None:
    """Write the files and remove what is no longer rendered."""
    for line in differences(files, folder):
        name = line.split(" ", 1)[0]
        if name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(files[name])
        else:
            (folder / name).unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
