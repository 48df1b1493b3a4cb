"""MOSS-TTSD among the families: recognition of its folders, published sizes, comparison of choices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from support.moss_helpers import lm_config, tiny_codec, tiny_codec_config, write_checkpoint

from tritone.build.artifacts import artifacts
from tritone.build.targets import for_target
from tritone.catalog import KINDS, open_family, published_family
from tritone.engines.torch import torch_call
from tritone.errors import CheckpointError
from tritone.export.to_fp16 import convert_stage
from tritone.export.to_onnx import export_stage
from tritone.families.moss_ttsd.codec.stages import codec_stages
from tritone.families.moss_ttsd.lm.config import RELEASED
from tritone.nn.precision import halved
from tritone.parity.compare import compare_stage
from tritone.server.repository import render
from tritone.stage import Arrays, Stage


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("moss"))


def test_a_configuration_with_channels_is_this_family(folder: Path) -> None:
    family = open_family(folder)
    assert family.name == "moss_ttsd" and family.settings["sample_rate"] == 32000
    (kind,) = (one for one in KINDS if one.module == "tritone.families.moss_ttsd.family")
    described = published_family(kind)
    assert [stage.name for stage in described.stages] == [stage.name for stage in family.stages]
    for target in ("cpu", "gpu"):
        chosen = for_target(target)
        assert [a.key for a in artifacts(described, chosen)] == [a.key for a in artifacts(family, chosen)]
    with pytest.raises(CheckpointError, match="described without a checkpoint; it has no weights"):
        described.stage("lm_step").build()


def test_the_published_sizes_are_the_released_ones(tmp_path: Path) -> None:
    assert lm_config("released", tmp_path) == RELEASED


def test_a_folder_without_its_codec_says_what_to_put_there(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match=r"lacks the codec's configuration: one of .*Copy or link it there"):
        open_family(tmp_path)


def test_the_language_model_is_batched_on_every_target(folder: Path) -> None:
    for target in ("cpu", "gpu"):
        files = render(open_family(folder), target)
        assert b"dynamic_batching" in files["moss_ttsd_llm/config.pbtxt"]
        assert {"moss_ttsd/config.pbtxt", "moss_ttsd_stream/1/model.py"} <= set(files)


@pytest.fixture
def encoder() -> Stage:
    codec = tiny_codec()
    # The second half of each table repeats the first: every choice has a twin that is as good.
    for level in codec.quantizer.quantizers:
        level.codebook[32:] = level.codebook[:32]
    return codec_stages(tiny_codec_config(), lambda: codec)[0]


def worst(stage: Stage, changed: np.ndarray | None = None, shift: int = 0) -> list[float]:
    """Errors of the gate on an engine whose codes are the module's with `shift` added where `changed`."""
    module = torch_call([stage])

    def engine(name: str, **arrays: np.ndarray) -> Arrays:
        codes = module(name, **arrays)["codes"]
        where = np.ones(codes.shape, bool) if changed is None else np.broadcast_to(changed, codes.shape)
        return {"codes": np.where(where, codes + shift, codes)}

    return [row.error for row in compare_stage(stage, module, engine, "torch", seed=0, quick=True)]


def test_another_code_that_is_as_near_is_right(encoder: Stage) -> None:
    assert max(worst(encoder)) < 1e-5
    assert max(worst(encoder, shift=32)) < 1e-5, "each code's twin"
    with_differences = replace(encoder, regret=None)
    assert min(worst(with_differences, shift=32)) > 0.3, "as numbers they are far apart"


def test_a_code_that_is_farther_or_none_at_all_is_wrong(encoder: Stage) -> None:
    for level in range(8):
        only = np.arange(8)[None, :, None] == level
        assert min(worst(encoder, only, shift=1)) > 1e-3
    assert max(worst(encoder, shift=1000)) == float("inf")
    assert max(worst(encoder, shift=-32)) == float("inf")


def test_half_precision_chooses_codes_that_are_as_near(tmp_path: Path) -> None:
    encoder = codec_stages(tiny_codec_config(), tiny_codec)[0]
    fp32, fp16 = tmp_path / "fp32.onnx", tmp_path / "fp16.onnx"
    export_stage(encoder, fp32)
    convert_stage(encoder, fp32, fp16)
    graph = onnx.load(str(fp16)).graph
    rounded = {tensor.name: tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer}
    weights = {node.name: [rounded[n] for n in node.input if n in rounded] for node in graph.node}
    assert weights["/acoustic_encoder/conv1/Conv"] == [True, True]
    assert weights["/quantizer/quantizers.0/MatMul"] == weights["/quantizer/quantizers.7/MatMul"] == [False]
    session = onnxruntime.InferenceSession(str(fp16), providers=["CPUExecutionProvider"])
    given = encoder.example({"batch": 2, "codes": 25}, 0)
    (codes,) = session.run(None, given)
    assert encoder.regret is not None
    worse = encoder.regret()(given, {"codes": codes})["codes"]
    assert 0 < worse.max() < encoder.fp16_tolerance, "rounding did choose other codes, as near ones"
    assert worse.mean() < 1e-4


def test_the_quantiser_stays_in_full_precision(folder: Path) -> None:
    stage = open_family(folder).stage("codec_encoder")
    assert stage.build is not None
    kept = {name for name, value in halved(stage.build()).named_parameters() if value.dtype == torch.float32}
    assert kept and all(name.startswith("quantizer.") for name in kept)
