"""What can be built of a family: one artifact per stage, format and precision, and where it lies in a build folder.

    onnx/<stage>.onnx  onnx/<stage>.fp16.onnx          fp32, and mixed fp16 made from it; each may have a `.data` beside
    torchscript/<stage>.fp32.zip  .fp16.zip            under the stage's published name where it has one
    tensorrt/<stage>.fp32.plan  .fp16.plan             from the ONNX file of the same precision
    llm/int8/ int4/ fp32/                              the language model for onnxruntime-genai
    llm/huggingface/                                   the language model for TensorRT-LLM and vLLM

Standard library only.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tritone.errors import ConfigError
from tritone.stage import Family, Stage

FORMATS = ("torchscript", "onnx", "tensorrt", "llm")
PRECISIONS = ("fp32", "fp16")
TARGETS = ("cpu", "gpu")
GENAI_PRECISIONS = ("int8", "int4", "fp32")
HUGGINGFACE = "huggingface"
LLM_FOLDERS = (*GENAI_PRECISIONS, HUGGINGFACE)
TENSORRT_PACKAGES = ("tensorrt", "tensorrt_rtx_cu13", "tensorrt_rtx_cu12")
"""Any of them builds engines; the first that is installed is used."""


@dataclass(frozen=True)
class Selection:
    """Which artifacts are wanted.

    Args:
        llm: the language model's weight precision for onnxruntime-genai, or "huggingface".
        platform: what engines are built for, such as "sm89"; part of their identity.
    """

    formats: tuple[str, ...] = ("onnx", "llm")
    precisions: tuple[str, ...] = ("fp32",)
    llm: str = "int8"
    platform: str = ""

    def __post_init__(self) -> None:
        check("format", self.formats, FORMATS)
        check("precision", self.precisions, PRECISIONS)
        check("language model precision", (self.llm,), LLM_FOLDERS)


@dataclass(frozen=True)
class Artifact:
    """One file or folder of a build folder.

    Args:
        key: its path below the build folder, which is also its key in the manifest.
        name: of the stage or language model.
        source: key of the artifact it is made from; empty when it is made from the checkpoint.
        requires: packages whose installed version must equal the one that built it.
    """

    key: str
    name: str
    format: str
    precision: str
    source: str = ""
    platform: str = ""
    requires: Mapping[str, str] = field(default_factory=dict)


def for_target(target: str) -> Selection:
    """What a server of that target loads."""
    check("target", (target,), TARGETS)
    return Selection() if target == "cpu" else Selection(("onnx", "tensorrt", "llm"), ("fp16",), HUGGINGFACE)


def check(what: str, asked: Iterable[str], known: tuple[str, ...]) -> None:
    """Raise ConfigError naming what is not known and what is."""
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise ConfigError(f"unknown {what} {', '.join(unknown)}; there are {', '.join(known)}")


def stage_key(name: str, precision: str = "fp32") -> str:
    """Key of a stage's ONNX file."""
    return f"onnx/{name}.onnx" if precision == "fp32" else f"onnx/{name}.{precision}.onnx"


def data_file(path: Path) -> Path:
    """Where an ONNX file keeps weights that are too large for it; most have none."""
    return path.with_name(f"{path.name}.data")


def torchscript_key(stage: Stage, precision: str = "fp32") -> str:
    """Key of a stage's TorchScript file."""
    return f"torchscript/{stage.published or stage.name}.{precision}.zip"


def plan_key(name: str, precision: str = "fp16") -> str:
    """Key of a stage's TensorRT engine."""
    return f"tensorrt/{name}.{precision}.plan"


def llm_key(precision: str) -> str:
    """Key of the language model's folder."""
    return f"llm/{precision}"


def artifacts(family: Family, selection: Selection) -> list[Artifact]:
    """Return everything selected and what it is made from, each after its source."""
    formats, precisions = selection.formats, selection.precisions
    engines = "tensorrt" in formats
    fp16_files = "fp16" in precisions and ("onnx" in formats or engines)
    fp32_files = "fp32" in precisions and ("onnx" in formats or engines)
    torch = installed(("torch",))
    package = tensorrt_package() if engines else ""
    compiler = installed((package,)) if package else {}
    found: list[Artifact] = []
    for stage in family.stages:
        source = stage_key(stage.name)
        if fp32_files or fp16_files:
            found.append(Artifact(source, stage.name, "onnx", "fp32"))
        if fp16_files:
            found.append(Artifact(stage_key(stage.name, "fp16"), stage.name, "onnx", "fp16", source))
        if "torchscript" in formats and stage.build is not None:
            found += [
                Artifact(torchscript_key(stage, p), stage.name, "torchscript", p, requires=torch) for p in precisions
            ]
        if engines:
            found += [
                Artifact(plan_key(stage.name, p), stage.name, "tensorrt", p, stage_key(stage.name, p),
                         selection.platform, compiler)
                for p in precisions
            ]  # fmt: skip
    llm = family.language_model
    if llm is not None and "llm" in formats:
        runtime = () if selection.llm == HUGGINGFACE else ("onnxruntime-genai",)
        found.append(Artifact(llm_key(selection.llm), llm.name, "llm", selection.llm, requires=installed(runtime)))
    return found


def only(artifact_list: list[Artifact], name: str) -> list[Artifact]:
    """Those of one stage or language model; ConfigError lists the names there are."""
    names = list(dict.fromkeys(artifact.name for artifact in artifact_list))
    if name not in names:
        raise ConfigError(f"there is no stage {name!r} to build; there are {', '.join(names)}")
    return [artifact for artifact in artifact_list if artifact.name == name]


def tensorrt_package() -> str:
    """Return the installed package that builds engines; empty when there is none. Nothing is imported."""
    return next((name for name in TENSORRT_PACKAGES if installed((name,))[name] != "none"), "")


def installed(packages: tuple[str, ...]) -> dict[str, str]:
    """Version of each package, "none" where it is not installed; nothing is imported."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found
