"""Make one artefact of a build folder and compare it with the checkpoint: what `build_engines.py` does for each.

Formats are told apart here and nowhere else; each has its exporter in a file of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritone.build.targets import HUGGINGFACE, Artefact
from tritone.engines.call import TorchCall
from tritone.parity.compare import Row, compare_artefact, compare_llm
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
"""The comparisons of an artefact, and the packages that made it."""


def make(artefact: Artefact, bench: Bench) -> Made:
    """Export one artefact and compare it with the checkpoint."""
    llm = bench.family.language_model
    if artefact.format == "llm":
        assert llm is not None
        return make_llm(artefact, llm, bench)
    stage = bench.family.stage(artefact.name)
    path = bench.out / artefact.key
    if artefact.format == "torchscript":
        return make_torchscript(artefact, stage, path, bench)
    if artefact.format == "tensorrt":
        return make_plan(artefact, stage, path, bench)
    return make_onnx(artefact, stage, path, bench)


def make_onnx(artefact: Artefact, stage: Stage, path: Path, bench: Bench) -> Made:
    """Return an ONNX file: fp32 from the module or the checkpoint's own file, fp16 from the fp32 file."""
    from tritone.export import to_onnx

    if artefact.precision == "fp16":
        from tritone.export import to_fp16

        to_fp16.convert_stage(stage, bench.out / artefact.source, path)
        return compare(artefact, stage, bench), to_fp16.TOOLS
    if stage.build is None:
        to_onnx.link_ready_made(stage, bench.model_dir, path)
        return [], to_onnx.TOOLS
    to_onnx.export_stage(stage, path, bench.reference.module(stage.name))
    return compare(artefact, stage, bench), to_onnx.TOOLS


def make_torchscript(artefact: Artefact, stage: Stage, path: Path, bench: Bench) -> Made:
    """Return a TorchScript file."""
    from tritone.export import to_torchscript

    to_torchscript.export_stage(stage, path, artefact.precision, bench.reference.module(stage.name))
    return compare(artefact, stage, bench), to_torchscript.TOOLS


def make_plan(artefact: Artefact, stage: Stage, path: Path, bench: Bench) -> Made:
    """Return a TensorRT engine; compared only on the kind of GPU it is for."""
    from tritone.export import to_tensorrt

    to_tensorrt.build_stage(stage, bench.out / artefact.source, path, bench.engine)
    runs = to_tensorrt.can_run(artefact.platform)
    return compare(artefact, stage, bench) if runs else [], to_tensorrt.TOOLS


def make_llm(artefact: Artefact, llm: LanguageModel, bench: Bench) -> Made:
    """Return the language model's folder."""
    folder = bench.out / artefact.key
    if artefact.precision == HUGGINGFACE:
        from tritone.export import to_huggingface

        return to_huggingface.export_llm(llm, folder, seed=bench.seed), to_huggingface.TOOLS
    from tritone.export import to_genai
    from tritone.lm.genai import GenaiModel

    to_genai.export_llm(llm, folder, artefact.precision)
    with GenaiModel(folder).session() as session:
        return [compare_llm(llm, session, artefact.precision, bench.seed)], to_genai.TOOLS


def compare(artefact: Artefact, stage: Stage, bench: Bench) -> list[Row]:
    """Return the artefact beside the fp32 reference at each size."""
    if artefact.format == "tensorrt":
        from tritone.export.engine_options import profiled

        # An engine for a narrower range is compared within it.
        stage = profiled(stage, bench.engine.profile)
    reference = reference_call(bench.family, bench.reference, bench.out)
    engine = engine_call(artefact.format, artefact.precision, [stage], bench.out)
    return compare_artefact(artefact, stage, bench.family, reference, engine, bench.out, bench.seed, bench.quick)
