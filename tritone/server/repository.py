"""Renders a checkpoint's Triton model repository: a model for each host step, the ensemble and the stream.

Configs are built from the description as Triton's own protobuf messages; override texts are merged last. On the cpu
target a host step runs its networks in its own process; on the others each stage is a model, called over BLS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from tritone.errors import ConfigError
from tritone.server.model_config import MAX_BATCH, declare, merge, publish, python_model
from tritone.server.stage_models import PLAN, PYTHON, stage_models, warm_up_files
from tritone.stage import Axis, Family, Host

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = ROOT / "model_repository"
HEADER = "# Rendered by python export/repository.py; do not edit. How to override it: model_repository/README.md.\n"
MODEL = """# Rendered by python export/repository.py; the source is tritone/server/glue.py.
from tritone.server.glue import TritonPythonModel as TritonPythonModel
"""
"""The `1/model.py` of every Python model."""


@dataclass(frozen=True)
class Target:
    """The way the models of one repository run.

    Args:
        stages: backend of the stage models; empty if each process runs its networks itself.
        parameters: parameters of each Python model's config, read by `tritone.server.models`.
        llm_instances: instances of a language model that decodes each sequence alone.
        long_instances: instances of a host step whose work takes long for long speech.
        committed: rendered into `model_repository/` and checked there.
    """

    stages: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    llm_instances: int = 1
    long_instances: int = 1
    committed: bool = True


LLM = "llm"
"""The entry in a host step's `uses` for the language model."""
STREAMS = 64
"""Streams open at a time, each with a thread: the front door admits fewer; those that are paused wait in theirs."""
LLM_QUEUE_DELAY = 20_000
"""Microseconds a request waits for others, if one loop decodes the sequences of all: the decoding takes seconds."""
SERVED_LLM = {"llm": "served", "llm_url": "${TRITONE_LLM_URL}", "llm_engine": "${TRITONE_LLM_ENGINE}"}
NOTHING: Mapping[str, str] = {}
NO_LLM = ("stages",)
"""Parameters that do not concern the language model."""
TARGETS = {
    "cpu": Target(parameters={"stages": "onnxruntime"}, llm_instances=2, long_instances=2),
    "gpu": Target(PLAN, {"stages": "triton", **SERVED_LLM}, llm_instances=4),
    "stages": Target(PYTHON, {"stages": "triton"}, llm_instances=4, committed=False),
}
"""The repositories; "stages" is that of the gpu target with stage models on onnxruntime, for tests without a GPU."""


def render(
    family: Family, target: str, overrides: Path | None = None, chosen: Mapping[str, str] = NOTHING
) -> dict[str, bytes]:
    """Return every file of the family's repository by relative path.

    Args:
        overrides: folder of `<model>.pbtxt` texts, merged last (default: `model_repository/overrides/<target>`).
        chosen: parameters instead of the target's, or besides them, as `tritone.server.models` reads them.
    """
    if target not in TARGETS:
        raise ConfigError(f"unknown target {target!r}; the targets are {', '.join(TARGETS)}")
    runs = TARGETS[target]
    folder = REPOSITORY / "overrides" / target if overrides is None else overrides
    # A language model made of stages runs on the engine of the other stages.
    whole_lm = family.causal_lm is not None
    parameters = {key: value for key, value in runs.parameters.items() if whole_lm or key in NO_LLM}
    parameters |= chosen
    steps = {f"{family.name}_{host.name}": host for host in family.hosts} | {h.name: h for h in family.services}
    configs = {name: step(family, name, host, parameters, runs) for name, host in steps.items()}
    configs |= {family.name: ensemble(family), f"{family.name}_stream": stream(family, parameters)}
    files: dict[str, bytes] = {}
    if runs.stages:
        configs |= stage_models(family, runs.stages)
        files |= warm_up_files(family)
    for text in sorted(folder.glob(f"{family.name}*.pbtxt")):
        if text.stem not in configs:
            raise ConfigError(f"{text} does not belong to a model; the models are {', '.join(sorted(configs))}")
    for name, config in configs.items():
        text = folder / f"{name}.pbtxt"
        if text.is_file():
            merge(config, text)
        files[f"{name}/config.pbtxt"] = (HEADER + text_format.MessageToString(config)).encode()
        # Triton requires a version folder of every model, and git does not keep empty ones.
        files |= {f"{name}/1/model.py": MODEL.encode()} if config.backend == "python" else {f"{name}/1/.gitkeep": b""}
    return files


def step(family: Family, name: str, host: Host, parameters: Mapping[str, str], target: Target) -> pb.ModelConfig:
    """Return the Python model that runs one host step on a list of requests.

    Requests are grouped if every stage of the step takes a batch. A language model that decodes each sequence alone
    runs in several instances instead, as sequences end at different times; so does a step whose work takes long, so
    that a short request passes a long one.
    """
    requested = {tensor.name for tensor in family.request}
    inputs = tuple(replace(tensor, optional=tensor.optional or tensor.name in requested) for tensor in host.inputs)
    config = python_model(name, host.name, inputs, host.outputs, parameters)
    decodes = LLM in host.uses
    if takes_batches(family, host):
        config.dynamic_batching.max_queue_delay_microseconds = LLM_QUEUE_DELAY if decodes else 0
    elif decodes:
        config.instance_group[0].count = target.llm_instances
    if host.long:
        config.instance_group[0].count = target.long_instances
    return config


def takes_batches(family: Family, host: Host) -> bool:
    """Return True if the step calls stages and each of them takes a batch."""
    stages = [family.stage(name) for name in host.uses if name != LLM]
    return bool(stages) and all(isinstance(stage.inputs[0].shape[0], Axis) for stage in stages)


def stream(family: Family, parameters: Mapping[str, str]) -> pb.ModelConfig:
    """Return the decoupled model that answers a request chunk by chunk."""
    config = python_model(f"{family.name}_stream", "stream", family.request, family.response, parameters)
    config.model_transaction_policy.decoupled = True
    config.parameters["streams"].string_value = str(STREAMS)
    publish(config, family.settings)
    return config


def ensemble(family: Family) -> pb.ModelConfig:
    """Return the ensemble: every host step in order, joined by tensor names.

    All its inputs are optional: for a missing one an ensemble reports a deadlock, while the host step that reads it
    names the field.
    """
    config = pb.ModelConfig(name=family.name, platform="ensemble", max_batch_size=MAX_BATCH)
    declare(config, tuple(replace(tensor, optional=True) for tensor in family.request), family.response)
    publish(config, family.settings)
    known = {tensor.name for tensor in family.request}
    for host in family.hosts:
        missing = [tensor.name for tensor in host.inputs if tensor.name not in known]
        if missing:
            raise ConfigError(
                f"{family.name}: host step {host.name} needs {', '.join(missing)}, which no earlier one gives; "
                f"known: {', '.join(sorted(known))}"
            )
        entry = config.ensemble_scheduling.step.add(model_name=f"{family.name}_{host.name}", model_version=-1)
        for tensor in host.inputs:
            entry.input_map[tensor.name] = tensor.name
        for tensor in host.outputs:
            entry.output_map[tensor.name] = tensor.name
            known.add(tensor.name)
    return config


def differences(files: dict[str, bytes], folder: Path) -> list[str]:
    """Return the differences between the rendered files and the folder, one phrase for each file."""
    present = {
        str(path.relative_to(folder)): path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    lines = [f"{name} is missing" for name in sorted(files.keys() - present.keys())]
    lines += [f"{name} is not a rendered file" for name in sorted(present.keys() - files.keys())]
    lines += [
        f"{name} differs" for name in sorted(files.keys() & present.keys()) if present[name].read_bytes() != files[name]
    ]
    return lines


def write(files: dict[str, bytes], folder: Path) -> None:
    """Write the files and remove those that are no longer rendered."""
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
