"""The artifacts that can be built of a family: one per stage, format and precision, and one for its language model.

Standard library only; no package is imported to learn its version.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field

from tritone.build.layout import llm_key, plan_key, stage_key, torchscript_key
from tritone.build.targets import HUGGINGFACE, Selection
from tritone.errors import ConfigError
from tritone.stage import Family, Stage

TENSORRT_PACKAGES = ("tensorrt", "tensorrt_rtx_cu13", "tensorrt_rtx_cu12")
"""Packages that build plans; the first one installed is used."""


@dataclass(frozen=True)
class Artifact:
    """One file or folder of a build folder.

    Args:
        key: its path below the build folder, and its key in the manifest.
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


def artifacts(family: Family, selection: Selection) -> list[Artifact]:
    """Return the selected artifacts and those they are made from, each after its source."""
    result = [artifact for stage in family.stages for artifact in stage_artifacts(stage, selection)]
    llm = family.causal_lm
    if llm is not None and "llm" in selection.formats:
        runtime = () if selection.llm == HUGGINGFACE else ("onnxruntime-genai",)
        result.append(Artifact(llm_key(selection.llm), llm.name, "llm", selection.llm, requires=installed(runtime)))
    return result


def stage_artifacts(stage: Stage, selection: Selection) -> list[Artifact]:
    """Return the selected artifacts of one stage and those they are made from, each after its source."""
    formats, precisions = selection.formats, selection.precisions
    source = stage_key(stage.name)
    result = []
    if "onnx" in formats or "tensorrt" in formats:
        result.append(Artifact(source, stage.name, "onnx", "fp32"))
        if "fp16" in precisions:
            result.append(Artifact(stage_key(stage.name, "fp16"), stage.name, "onnx", "fp16", source))
    if "torchscript" in formats and stage.build is not None:
        torch = installed(("torch",))
        for precision in precisions:
            key = torchscript_key(stage, precision)
            result.append(Artifact(key, stage.name, "torchscript", precision, requires=torch))
    if "tensorrt" in formats:
        package = tensorrt_package()
        compiler = installed((package,)) if package else {}
        for precision in precisions:
            graph = stage_key(stage.name, precision)
            key = plan_key(stage.name, precision)
            result.append(Artifact(key, stage.name, "tensorrt", precision, graph, selection.platform, compiler))
    return result


def only(listed: list[Artifact], name: str) -> list[Artifact]:
    """Return the artifacts of one stage or language model.

    Raises:
        ConfigError: there are none; the message lists the names.
    """
    names = list(dict.fromkeys(artifact.name for artifact in listed))
    if name not in names:
        raise ConfigError(f"there is no stage {name!r} to build; there are {', '.join(names)}")
    return [artifact for artifact in listed if artifact.name == name]


def tensorrt_package() -> str:
    """Return the name of the installed package that builds plans, or an empty string."""
    return next((name for name in TENSORRT_PACKAGES if installed((name,))[name] != "none"), "")


def installed(packages: tuple[str, ...]) -> dict[str, str]:
    """Return the version of each package, "none" if it is not installed."""
    versions = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "none"
    return versions
