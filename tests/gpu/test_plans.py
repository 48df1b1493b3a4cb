"""TensorRT engines beside onnxruntime, for every stage in both precisions at its smallest, usual and largest sizes.

These tests need an NVIDIA GPU, a CUDA build of torch, and tensorrt or tensorrt_rtx. They were written on a machine
without one and have not been run: there, engines are compiled for real and the runner is tested against a stand-in
(tests/unit/export/test_to_tensorrt.py, tests/unit/engines/test_plan.py). Run them with `pytest tests/gpu`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tritone.build.layout import plan_key, stage_path
from tritone.catalog import open_family
from tritone.engines import gpu
from tritone.engines.onnx import onnx_call
from tritone.engines.tensorrt import PlanCall, plan_call
from tritone.engines.torch import torch_call
from tritone.errors import InvalidRequest
from tritone.export.to_fp16 import convert_stage
from tritone.export.to_onnx import export_stage, link_ready_made
from tritone.export.to_tensorrt import build_stage, can_run
from tritone.parity.compare import points, relative_error
from tritone.stage import Family, Stage

NANO = Path(__file__).parents[2] / "checkpoints" / "nano"
STAGES = (
    "flow_encoder", "flow_encoder_chunk", "flow_estimator", "flow_estimator_chunk", "f0_predictor", "vocoder",
    "speech_tokenizer", "speaker_embedding",
)  # fmt: skip
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not gpu.gpu(), reason="no CUDA device on this machine; engines are compiled but not run"),
    pytest.mark.skipif(
        bool(gpu.gpu()) and not can_run(), reason="there is a GPU, but torch is a CPU build and cannot hold its tensors"
    ),
    pytest.mark.skipif(not NANO.is_dir(), reason="checkpoints/nano is not there"),
]


@pytest.fixture(scope="module")
def family() -> Family:
    return open_family(NANO)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("build")


@pytest.fixture
def engines(family: Family, folder: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Stage, PlanCall, float]]:
    """The stage, a Call on its freshly built engine, and the precision's tolerance."""
    name, precision = request.param
    stage = family.stage(name)
    source = stage_path(folder, name)
    if not source.exists():
        if stage.build is None:
            link_ready_made(stage, NANO, source)
        else:
            export_stage(stage, source, torch_call([stage]).module(name))
    if precision == "fp16":
        convert_stage(stage, source, stage_path(folder, name, "fp16"))
    build_stage(stage, stage_path(folder, name, precision), folder / plan_key(name, precision))
    call = plan_call(folder, [stage], precision, recorded=False)
    yield stage, call, stage.tolerance if precision == "fp32" else stage.fp16_tolerance
    call.close()


EVERY = pytest.mark.parametrize(
    "engines", [(name, precision) for name in STAGES for precision in ("fp32", "fp16")], indirect=True, ids="-".join
)


def test_every_stage_is_listed(family: Family) -> None:
    assert tuple(stage.name for stage in family.stages) == STAGES


@EVERY
def test_an_engine_computes_what_onnxruntime_computes(engines: tuple[Stage, PlanCall, float], folder: Path) -> None:
    stage, call, tolerance = engines
    reference = onnx_call(folder, [stage])
    seed = int(time.time())
    for point, sizes in points(stage):
        inputs = stage.example(sizes, seed)
        wanted, found = reference(stage.name, **inputs), call(stage.name, **inputs)
        for name in wanted:
            assert found[name].shape == wanted[name].shape and found[name].dtype == wanted[name].dtype
            error = relative_error(wanted[name], found[name])
            assert error <= tolerance, f"{name} at {point} sizes, seed {seed}: error {error:.1e}, tolerance {tolerance}"


@pytest.mark.parametrize("engines", [("f0_predictor", "fp32")], indirect=True, ids="-".join)
def test_sizes_outside_the_profile_are_refused_by_name(engines: tuple[Stage, PlanCall, float]) -> None:
    stage, call, _ = engines
    with pytest.raises(InvalidRequest, match=r"mel_frames is 3001; the engine .* takes 4 to 3000"):
        call(stage.name, **stage.example({"batch": 1, "mel_frames": 3001}))


@pytest.mark.parametrize("engines", [("vocoder", "fp16")], indirect=True, ids="-".join)
def test_calls_of_changing_sizes_do_not_disturb_each_other(engines: tuple[Stage, PlanCall, float]) -> None:
    stage, call, _ = engines
    small, large = (stage.example({"batch": 1, "mel_frames": size}, size) for size in (50, 400))
    alone = call(stage.name, **small)["waveform"]
    call(stage.name, **large)
    assert relative_error(alone, call(stage.name, **small)["waveform"]) < 1e-3
