"""Every v1 stage exported, compared in both precisions with its torch module; speech ids sampled over ONNX stages."""

from __future__ import annotations

import functools
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support.golden_weights import golden
from support.v1_helpers import tiny_config, tiny_stages

from tritone.build.layout import stage_path, torchscript_key
from tritone.engines.onnx import onnx_call
from tritone.engines.torch import torch_call
from tritone.engines.torchscript import torchscript_call
from tritone.export.to_fp16 import convert_stage
from tritone.export.to_onnx import export_stage
from tritone.export.to_torchscript import export_stage as export_torchscript
from tritone.families.cosyvoice.lm.v1.session import stage_llm
from tritone.families.cosyvoice.lm.vocabulary import Vocabulary
from tritone.lm.sampling import tokens
from tritone.parity.compare import compare_stage
from tritone.stage import Call, Stage

STAGES = ("llm_text_encoder", "llm_step", "flow_encoder", "flow_estimator", "f0_predictor", "vocoder")


@functools.cache
def reference() -> Call:
    return torch_call(tiny_stages().values())


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder that the tests fill."""
    return tmp_path_factory.mktemp("build")


def exported(build: Path, name: str) -> Stage:
    """Return the stage, after exporting its ONNX file into the folder."""
    stage = tiny_stages()[name]
    if not stage_path(build, name).exists():
        export_stage(stage, stage_path(build, name))
    return stage


def check(stage: Stage, engine: Call, form: str, tolerance: float) -> None:
    rows = list(compare_stage(stage, reference(), engine, form, seed=3, quick=True, tolerance=tolerance))
    assert len(rows) == 2 and all(row.passed for row in rows), rows


@pytest.mark.parametrize("name", STAGES)
def test_onnx(build: Path, name: str) -> None:
    stage = exported(build, name)
    check(stage, onnx_call(build, [stage]), "onnx fp32", stage.tolerance)
    convert_stage(stage, stage_path(build, name), stage_path(build, name, "fp16"))
    check(stage, onnx_call(build, [stage], precision="fp16"), "onnx fp16", stage.fp16_tolerance)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 1e-2)])
@pytest.mark.parametrize("name", STAGES[:4])
def test_torchscript(build: Path, name: str, precision: str, tolerance: float) -> None:
    stage = tiny_stages()[name]
    export_torchscript(stage, build / torchscript_key(stage, precision), precision)
    check(stage, torchscript_call(build, [stage], precision=precision), f"torchscript {precision}", tolerance)


def test_files_bear_the_published_names() -> None:
    found = {torchscript_key(stage).removeprefix("torchscript/") for stage in tiny_stages().values()}
    assert {f"{name}.fp32.zip" for name in ("llm.text_encoder", "llm.llm", "flow.encoder")} <= found


def test_ragged_rows_in_onnx(build: Path) -> None:
    stage = exported(build, "flow_estimator")
    inputs = stage.example({"rows": 2, "frames": 31}, seed=5)
    inputs["mask"][1, :, 17:] = 0
    found, wanted = (call("flow_estimator", **inputs)["velocity"] for call in (onnx_call(build, [stage]), reference()))
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
    assert not found[1, :, 17:].any()


def test_a_graph_has_each_weight_once(build: Path) -> None:
    exported(build, "llm_step")
    model = onnx.load(stage_path(build, "llm_step"))
    sizes = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    config = tiny_config().lm
    lm = reference().module("llm_step")  # type: ignore[attr-defined]
    assert sizes < 1.05 * sum(parameter.numel() for parameter in lm.parameters())
    assert sizes > config.head_size * config.hidden_size


def test_sampling_over_onnx_stages_draws_the_published_ids(build: Path) -> None:
    known, config = golden("llm", "v1"), tiny_config().lm
    stages = (exported(build, "llm_text_encoder"), exported(build, "llm_step"))
    llm = stage_llm(onnx_call(build, stages), stages, config)
    text = np.concatenate((known["prompt_text"], known["text"]), axis=1)[0]
    prompt = Vocabulary(config.head_size).prompt(text.tolist(), known["prompt_speech_token"][0].tolist())
    torch.manual_seed(1234)

    def draw(probabilities: np.ndarray) -> int:
        return int(torch.multinomial(torch.from_numpy(probabilities), 1, replacement=True))

    found = list(islice(tokens(llm.session(known["embedding"]), prompt, known["text"].shape[1], config, draw), 60))
    assert found == known["ras_ids"].tolist()
