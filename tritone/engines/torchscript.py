"""Stages on TorchScript files, and the label by which a file says what it is.

A file holds one frozen module, whose `forward` takes a stage's inputs under their declared names, and beside it a small
JSON text with the stage, the precision and how the module was made. Boundary tensors are float32 whatever is inside.
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tritone.build.layout import torchscript_key
from tritone.engines.inputs import check_inputs, known_stage, listed
from tritone.engines.torch_run import TorchRun
from tritone.errors import ArtifactError
from tritone.stage import Arrays, Call, Stage

LABEL = "tritone.json"
REBUILD = "run: tritone build --formats torchscript"


@dataclass(frozen=True)
class Label:
    """The label of a file.

    Args:
        stage, precision: the stage it computes, and the arithmetic inside ("fp32" or "fp16").
        way: "script" (control flow kept) or "trace" (one path through the module), the latter with a reason.
        methods: the methods that can be called beside `forward`, such as streaming entry points.
        torch: version that wrote the file.
    """

    stage: str
    precision: str
    way: str
    methods: tuple[str, ...]
    torch: str
    reason: str = ""

    def text(self) -> str:
        """Return the label as JSON."""
        return json.dumps(asdict(self))


def open_module(stage: Stage, path: Path, precision: str, device: str = "cpu") -> tuple[Any, Label]:
    """Return the module in the file and its label.

    Raises:
        ArtifactError: the file is missing or damaged, is of another stage or precision, or takes other inputs.
    """
    import torch

    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; {REBUILD}")
    extra: dict[str, Any] = {LABEL: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.jit.load(str(path), map_location=device, _extra_files=extra)
        label = read_label(extra[LABEL])
    except Exception as error:  # the reader raises many kinds, from a bad zip to unknown operators
        raise ArtifactError(f"{path} cannot be loaded ({str(error).splitlines()[0]}); {REBUILD}") from error
    actual, expected = f"stage {label.stage} in {label.precision}", f"stage {stage.name} in {precision}"
    if actual != expected:
        raise ArtifactError(f"{path} is {actual}, not {expected}; {REBUILD}")
    names = [argument.name for argument in module.forward.schema.arguments[1:]]
    declared = [tensor.name for tensor in stage.inputs]
    if names != declared:
        raise ArtifactError(f"{path} takes {listed(names)}, {expected} declares {listed(declared)}; {REBUILD}")
    return module, label


def read_label(text: str | bytes) -> Label:
    """Return the label written by `Label.text`; ValueError for anything else."""
    values = json.loads(text) if text else None
    if not isinstance(values, dict) or values.keys() != Label.__dataclass_fields__.keys():
        raise ValueError(f"it was not written by Tritone: it has no {LABEL}")
    return Label(**{**values, "methods": tuple(values["methods"])})


def run_module(module: Any, stage: Stage, arrays: Arrays, device: str = "cpu") -> Arrays:
    """Return the outputs by their declared names; ArtifactError when the module gives another number of them."""
    import torch

    with torch.inference_mode():
        inputs = [torch.from_numpy(np.ascontiguousarray(arrays[t.name])).to(device) for t in stage.inputs]
        result = module(*inputs)
    values = result if isinstance(result, tuple) else (result,)
    if len(values) != len(stage.outputs):
        raise ArtifactError(
            f"the TorchScript module of stage {stage.name} gives {len(values)} outputs, declared are "
            f"{listed(tensor.name for tensor in stage.outputs)}; {REBUILD}"
        )
    return {tensor.name: value.cpu().numpy() for tensor, value in zip(stage.outputs, values, strict=True)}


def torchscript_call(
    folder: str | Path, stages: Iterable[Stage], precision: str = "fp32", threads: int = 1, device: str = "cpu"
) -> Call:
    """Return a Call on TorchScript files, each opened on first use.

    Args:
        folder: a build folder.
        precision: of the arithmetic inside, "fp32" or "fp16".
        threads: of each call on the CPU.
    """
    by_name = {stage.name: stage for stage in stages}
    modules: dict[str, Any] = {}
    how = TorchRun(device, threads)
    lock = threading.Lock()

    def module(stage: Stage) -> Any:
        with lock:
            if stage.name not in modules:
                path = Path(folder) / torchscript_key(stage, precision)
                modules[stage.name], _ = open_module(stage, path, precision, device)
            return modules[stage.name]

    def call(stage_name: str, **arrays: np.ndarray) -> Arrays:
        stage = known_stage(by_name, stage_name)
        check_inputs(stage, arrays)
        opened = module(stage)
        with how.scope():
            return run_module(opened, stage, arrays, device)

    return call
