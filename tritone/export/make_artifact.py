"""Make one artifact of a build folder and compare it with the checkpoint.

This is the only module that distinguishes the formats; each exporter has a file of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritone.build.artifacts import Artifact
from tritone.build.targets import HUGGINGFACE
from tritone.engines.torch import TorchCall
from tritone.lm.description import CausalLm
from tritone.parity.compare import Row, compare_artifact
from tritone.parity.engines import engine_call, reference_call
from tritone.parity.quantised import compare_genai
from tritone.stage import Family, Stage


@dataclass
class Build:
    """The objects that the exporters of one run share.

    Args:
        reference: the stages' torch modules in fp32.
        quick: compare at the smallest and usual sizes only.
        options: the plan builder's (`tritone.export.tensorrt_options.Options`).
    """

    family: Family
    model_dir: Path
    out: Path
    reference: TorchCall
    seed: int
    quick: bool = False
    options: Any = None


Made = tuple[list[Row], tuple[str, ...]]
"""The comparisons of an artifact, and the packages that made it."""


def make(artifact: Artifact, build: Build) -> Made:
    """Export one artifact and compare it with the checkpoint."""
    llm = build.family.causal_lm
    if artifact.format == "llm":
        assert llm is not None
        return make_llm(artifact, llm, build)
    stage = build.family.stage(artifact.name)
    path = build.out / artifact.key
    if artifact.format == "torchscript":
        return make_torchscript(artifact, stage, path, build)
    if artifact.format == "tensorrt":
        return make_plan(artifact, stage, path, build)
    return make_onnx(artifact, stage, path, build)


def make_onnx(artifact: Artifact, stage: Stage, path: Path, build: Build) -> Made:
    """Write an ONNX file: fp32 from the module or the checkpoint's own file, fp16 from the fp32 file."""
    from tritone.export import to_onnx

    if artifact.precision == "fp16":
        from tritone.export import to_fp16

        to_fp16.convert_stage(stage, build.out / artifact.source, path)
        return compare(artifact, stage, build), to_fp16.TOOLS
    if stage.build is None:
        to_onnx.link_ready_made(stage, build.model_dir, path)
        return [], to_onnx.TOOLS
    to_onnx.export_stage(stage, path, build.reference.module(stage.name))
    return compare(artifact, stage, build), to_onnx.TOOLS


def make_torchscript(artifact: Artifact, stage: Stage, path: Path, build: Build) -> Made:
    """Write a TorchScript file."""
    from tritone.export import to_torchscript

    to_torchscript.export_stage(stage, path, artifact.precision, build.reference.module(stage.name))
    return compare(artifact, stage, build), to_torchscript.TOOLS


def make_plan(artifact: Artifact, stage: Stage, path: Path, build: Build) -> Made:
    """Write a TensorRT plan; it is compared only on the kind of GPU it is for."""
    from tritone.export import to_tensorrt

    to_tensorrt.build_stage(stage, build.out / artifact.source, path, build.options)
    runs = to_tensorrt.can_run(artifact.platform)
    return compare(artifact, stage, build) if runs else [], to_tensorrt.TOOLS


def make_llm(artifact: Artifact, llm: CausalLm, build: Build) -> Made:
    """Write the language model's folder."""
    folder = build.out / artifact.key
    if artifact.precision == HUGGINGFACE:
        from tritone.export import to_huggingface

        return to_huggingface.export_llm(llm, folder, seed=build.seed), to_huggingface.TOOLS
    from tritone.export import to_genai
    from tritone.lm.genai import GenaiModel

    to_genai.export_llm(llm, folder, artifact.precision)
    with GenaiModel(folder).session() as session:
        return compare_genai(llm, session, artifact.precision, build.seed), to_genai.TOOLS


def compare(artifact: Artifact, stage: Stage, build: Build) -> list[Row]:
    """Return the comparisons of the artifact with the fp32 reference at each size."""
    if artifact.format == "tensorrt":
        from tritone.export.tensorrt_options import profiled

        # A plan for a narrower range is compared within it.
        stage = profiled(stage, build.options.profile)
    reference = reference_call(build.family, build.reference, build.out)
    engine = engine_call(artifact.format, artifact.precision, [stage], build.out)
    return compare_artifact(artifact, stage, build.family, reference, engine, build.out, build.seed, build.quick)
