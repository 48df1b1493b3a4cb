"""The Triton model of each single stage: a TensorRT plan, or a Python model that runs the same tensors on onnxruntime.

Plans belong to one GPU and are never committed: `link_plans` joins them to a rendered repository when it is served.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from tritonclient.grpc import model_config_pb2 as pb

from tritone.build.layout import plan_key
from tritone.errors import ArtifactError
from tritone.server.bls import STAGE, batch_axis, model_name, stage_prefix
from tritone.server.model_config import DTYPES, one_on_cpu
from tritone.stage import Family, Stage, Tensor

PLAN = "tensorrt_plan"
PYTHON = "python"
QUEUE_DELAY = 500
"""Microseconds a request waits for others to form a batch: the work on a chunk takes several times as long."""
QUEUE_TIMEOUT = 30_000_000
"""Microseconds after which a request that is still queued is refused, as its response would come too late."""
WARM_UP = "usual_size"
COMPUTE = "compute"
"""The resource of Triton's rate limiter that stages share: two units, as many as the most that one model asks for."""
CHUNK = "_chunk"
"""Ending of the name of a stage's form for streams; the stage itself then serves whole utterances alone."""


def stage_models(family: Family, backend: str) -> dict[str, pb.ModelConfig]:
    """Return the config of every stage's model by model name; `backend` is "tensorrt_plan" or "python"."""
    prefix = stage_prefix(family.name)
    names = {stage.name for stage in family.stages}
    configs = {}
    for stage in family.stages:
        config = configs[model_name(prefix, stage.name)] = stage_model(prefix, stage, backend)
        if stage.build:
            share_compute(config, whole_only=stage.name + CHUNK in names)
    return configs


def share_compute(config: pb.ModelConfig, whole_only: bool) -> None:
    """Let the rate limiter decide when a stage runs.

    A stage that serves whole utterances alone takes both units and comes after the chunks of streams, for which a
    listener waits. Any other stage takes one unit, so that two run at a time. Ready-made ONNX files are not limited:
    they run once for a recording.
    """
    limiter = config.instance_group[0].rate_limiter
    limiter.resources.add(name=COMPUTE, count=2 if whole_only else 1)
    limiter.priority = 2 if whole_only else 1


def stage_model(prefix: str, stage: Stage, backend: str) -> pb.ModelConfig:
    """Return the config of a stage's model; Triton forms batches if every tensor begins with the same batch axis."""
    axis = batch_axis(stage)
    config = pb.ModelConfig(name=model_name(prefix, stage.name), max_batch_size=axis.hi if axis else 0)
    for tensor in stage.inputs:
        declare_stage_tensor(config.input.add(), tensor, axis is not None)
    for tensor in stage.outputs:
        declare_stage_tensor(config.output.add(), tensor, axis is not None)
    if backend == PLAN:
        config.platform = PLAN
        config.default_model_filename = "model.plan"
        config.instance_group.add(count=1, kind=pb.ModelInstanceGroup.KIND_GPU)
    else:
        config.backend = PYTHON
        one_on_cpu(config, STAGE + stage.name, {"stages": "onnxruntime"})
    if axis is not None:
        batching = config.dynamic_batching
        batching.preferred_batch_size.extend(size for size in (2, 4, 8, 16) if size <= axis.hi)
        batching.max_queue_delay_microseconds = QUEUE_DELAY
        batching.default_queue_policy.default_timeout_microseconds = QUEUE_TIMEOUT
        batching.default_queue_policy.allow_timeout_override = True
    warm_up(config, stage, axis is not None)
    return config


def declare_stage_tensor(entry: pb.ModelInput | pb.ModelOutput, tensor: Tensor, batched: bool) -> None:
    """Fill in dtype and sizes; lengths, which have no size besides the batch, get one of 1 and are reshaped."""
    entry.name, entry.data_type = tensor.name, DTYPES[tensor.dtype]
    sizes = [dim if isinstance(dim, int) else -1 for dim in tensor.shape[1 if batched else 0 :]]
    entry.dims.extend(sizes or [1])
    if not sizes:
        entry.reshape.SetInParent()


def warm_up(config: pb.ModelConfig, stage: Stage, batched: bool) -> None:
    """Add one run at the usual sizes while loading: on zeros, or on a file of values where zero is not valid."""
    sample = config.model_warmup.add(name=WARM_UP, batch_size=1 if batched else 0)
    for tensor in stage.inputs:
        entry = sample.inputs[tensor.name]
        entry.data_type = DTYPES[tensor.dtype]
        entry.dims.extend(warm_up_array(stage, tensor, batched).shape[1 if batched else 0 :] or (1,))
        if may_be_zero(tensor):
            entry.zero_data = True
        else:
            entry.input_data_file = tensor.name


def may_be_zero(tensor: Tensor) -> bool:
    """Return True unless the tensor holds lengths, or integers that begin above zero."""
    return tensor.dtype.startswith("float") or (tensor.length_of is None and tensor.values[0] <= 0)


def warm_up_array(stage: Stage, tensor: Tensor, batched: bool) -> np.ndarray:
    """Return an example of the tensor at its usual sizes, with a batch of one if Triton forms batches."""
    axes = stage.sizes("opt")
    axis = batch_axis(stage)
    return stage.example(axes | {axis.name: 1} if batched and axis else axes)[tensor.name]


def warm_up_files(family: Family) -> dict[str, bytes]:
    """Return the files that the warm-ups read, by path in the repository."""
    files = {}
    for stage in family.stages:
        folder = f"{model_name(stage_prefix(family.name), stage.name)}/warmup"
        for tensor in stage.inputs:
            if not may_be_zero(tensor):
                files[f"{folder}/{tensor.name}"] = warm_up_array(stage, tensor, batch_axis(stage) is not None).tobytes()
    return files


def link_plans(folder: Path, family: Family, build: Path, precision: str = "fp16") -> None:
    """Make each stage model's `1/model.plan` in a rendered repository a link to the plan in the build folder.

    Raises ArtifactError naming the plans that do not exist. `manifest.verify` checks that they are the right ones.
    """
    plans = {stage.name: build / plan_key(stage.name, precision) for stage in family.stages}
    missing = [str(path) for path in plans.values() if not path.is_file()]
    if missing:
        raise ArtifactError(
            f"{', '.join(missing)} does not exist; build the plans on the GPU that will run them: "
            "tritone build --target gpu"
        )
    for name, plan in plans.items():
        link = folder / model_name(stage_prefix(family.name), name) / "1" / "model.plan"
        link.unlink(missing_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(plan.resolve(), link)
