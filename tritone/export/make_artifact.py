"""Make one artifact of a build folder and compare it with the checkpoint: what `build_engines.py` does for each.

Formats are told apart here and nowhere else; each has its exporter in a file of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritone.build.targets import HUGGINGFACE, Artifact
from tritone.engines.call import TorchCall
from tritone.parity.compare import Row, compare_artifact, compare_llm
from tritone.parity.engines import engine_call, reference_call
from tritone.stage import Family, LanguageModel, Stage


@dataclass
class Bench:
    """What the exporters of one run share.

    Args:
        reference: the stages' torch modules in fp32.
        quick: compare at the smallest and usual sizes only.
        engine: options of the engine builder (`export.to_tensorrt.Options`).
    """

    family: Family
    model_dir: Path
    out: Path
    reference: TorchCall
    seed: int
    quick: bool = False
    engine: Any = None


Made = tuple[list[Row], tuple[str, ...]]
"""The comparisons of an artifact, and the packages that made it."""


def make(artifact: Artifact, bench: Bench) -> Made:
    """Export one artifact and compare it with the checkpoint."""
    llm = bench.family.language_model
    if artifact.format == "llm":
        assert llm is not None
        return make_llm(artifact, llm, bench)
    stage = bench.family.stage(artifact.name)
    path = bench.out / artifact.key
    if artifact.format == "torchscript":
        return make_torchscript(artifact, stage, path, bench)
    if artifact.format == "tensorrt":
        return make_plan(artifact, stage, path, bench)
    return make_onnx(artifact, stage, path, bench)


def make_onnx(artifact: Artifact, stage: Stage, path: Path, bench: Bench) -> Made:
    """Return an ONNX file: fp32 from the module or the checkpoint's own file, fp16 from the fp32 file."""
    from tritone.export import to_onnx

    if artifact.precision == "fp16":
        from tritone.export import to_fp16

        to_fp16.convert_stage(stage, bench.out / artifact.source, path)
        return compare(artifact, stage, bench), to_fp16.TOOLS
    if stage.build is None:
        to_onnx.link_ready_made(stage, bench.model_dir, path)
        return [], to_onnx.TOOLS
    to_onnx.export_stage(stage, path, bench.reference.module(stage.name))
    return compare(artifact, stage, bench), to_onnx.TOOLS


def make_torchscript(artifact: Artifact, stage: Stage, path: Path, bench: Bench) -> Made:
    """Return a TorchScript file."""
    from tritone.export import to_torchscript

    to_torchscript.export_stage(stage, path, artifact.precision, bench.reference.module(stage.name))
    return compare(artifact, stage, bench), to_torchscript.TOOLS


def make_plan(artifact: Artifact, stage: Stage, path: Path, bench: Bench) -> Made:
    """Return a TensorRT engine; compared only on the kind of GPU it is for."""
    from tritone.export import to_tensorrt

    to_tensorrt.build_stage(stage, bench.out / artifact.source, path, bench.engine)
    runs = to_tensorrt.can_run(artifact.platform)
    return compare(artifact, stage, bench) if runs else [], to_tensorrt.TOOLS


def make_llm(artifact: Artifact, llm: LanguageModel, bench: Bench) -> Made:
    """Return the language model's folder."""
    folder = bench.out / artifact.key
    if artifact.precision == HUGGINGFACE:
        from tritone.export import to_huggingface

        return to_huggingface.export_llm(llm, folder, seed=bench.seed), to_huggingface.TOOLS
    from tritone.export import to_genai
    from tritone.lm.genai import GenaiModel

    to_genai.export_llm(llm, folder, artifact.precision)
    with GenaiModel(folder).session() as session:
        return [compare_llm(llm, session, artifact.precision, bench.seed)], to_genai.TOOLS


def compare(artifact: Artifact, stage: Stage, bench: Bench) -> list[Row]:
    """Return the artifact beside the fp32 reference at each size."""
    if artifact.format == "tensorrt":
        from tritone.export.tensorrt_options import profiled

        # An engine for a narrower range is compared within it.
        stage = profiled(stage, bench.engine.profile)
    reference = reference_call(bench.family, bench.reference, bench.out)
    engine = engine_call(artifact.format, artifact.precision, [stage], bench.out)
    return compare_artifact(artifact, stage, bench.family, reference, engine, bench.out, bench.seed, bench.quick)
