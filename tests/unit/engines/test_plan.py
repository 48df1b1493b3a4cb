"""Engines of other machines are refused in words, and the runner binds what the engine asks for.

The runner is tested here against a stand-in for TensorRT and the GPU that computes with onnxruntime; on a GPU the real
thing is compared in tests/gpu.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from support.export_helpers import toy_stage

from tritone.build import manifest
from tritone.build.identity import Identity
from tritone.build.manifest import Entry
from tritone.engines import gpu
from tritone.engines import tensorrt as plan
from tritone.engines.label import Label, check_plan, read_label
from tritone.engines.onnx import onnx_call
from tritone.errors import ArtifactError, EnvironmentProblem, InvalidRequest
from tritone.export.to_onnx import export_stage
from tritone.export.to_tensorrt import build_stage, can_run
from tritone.stage import Arrays

RTX = "tensorrt_rtx 1.7.1.116"
KEY = "tensorrt/smooth.fp32.plan"


@pytest.fixture(autouse=True)
def rtx_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the tests run as with TensorRT-RTX, also on machines that have TensorRT."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)


def entry(platform: str) -> Entry:
    return Entry(Identity("c", "d", "fp32", {}, platform), "s", 1, 1.0, None, {})


def label(platform: str = f"{RTX} sm89", file: str = "smooth.fp32.plan") -> Label:
    return Label("smooth", platform, file, "0" * 64)


def write_plan(folder: Path, text: str) -> Path:
    path = folder / KEY
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x00header" + text.encode() + b"\x00\xff" * 9)
    return path


@pytest.mark.parametrize(
    ("built", "found", "fits"),
    [
        (f"{RTX} sm89", f"{RTX} sm89", True),
        (f"{RTX} sm86+sm89", f"{RTX} sm89", True),
        (f"{RTX} sm89 frames=1/2/4", f"{RTX} sm89", True),
        (f"{RTX} portable", f"{RTX} sm86", True),
        (f"{RTX} portable", f"{RTX} sm121", True),
        (f"{RTX} portable", f"{RTX} sm75", False),
        (f"{RTX} portable", f"{RTX} sm90", False),
        (f"{RTX} sm86", f"{RTX} sm89", False),
        (f"{RTX} sm89", "tensorrt_rtx 1.8 sm89", False),
        (f"{RTX} sm89", "tensorrt 11.4.0 sm89", False),
        ("", f"{RTX} sm89", False),
    ],
)
def test_an_engine_fits_its_gpu_and_version_alone(built: str, found: str, fits: bool) -> None:
    assert (gpu.mismatch(built, found) == "") is fits


def test_the_refusal_says_what_was_built_and_what_is_here(tmp_path: Path) -> None:
    path = write_plan(tmp_path, label().text())
    message = (
        rf"{path} was built for sm89 with {RTX}, this machine has sm86 and tensorrt_rtx 1.8.0. "
        "Run tritone build --formats tensorrt on this machine"
    )
    with pytest.raises(ArtifactError, match=message):
        check_plan(entry(f"{RTX} sm89"), "tensorrt_rtx 1.8.0 sm86", path)
    check_plan(entry(f"{RTX} sm89"), f"{RTX} sm89", path)


def test_a_plan_put_in_another_ones_place_is_refused(tmp_path: Path) -> None:
    path = write_plan(tmp_path, label(file="vocoder.fp32.plan").text())
    with pytest.raises(ArtifactError, match=r"is the engine vocoder.fp32.plan for .*replaced by hand"):
        check_plan(entry(f"{RTX} sm89"), f"{RTX} sm89", path)
    path = write_plan(tmp_path, label(f"{RTX} sm86").text())
    with pytest.raises(ArtifactError, match=f"for {RTX} sm86, the manifest records one for {RTX} sm89"):
        check_plan(entry(f"{RTX} sm89"), f"{RTX} sm89", path)


@pytest.mark.parametrize("text", ["", "tritone-plan {}", "tritone-plan {broken}", 'tritone-plan {"stage": "a"}'])
def test_a_file_without_a_label_is_refused(tmp_path: Path, text: str) -> None:
    path = write_plan(tmp_path, text)
    assert read_label(path) is None
    with pytest.raises(ArtifactError, match="is no engine that Tritone built"):
        check_plan(entry(f"{RTX} sm89"), f"{RTX} sm89", path)


def test_an_empty_or_missing_file_is_no_engine(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert read_label(tmp_path / "empty") is None
    with pytest.raises(ArtifactError, match=r"does not exist; run: tritone build"):
        read_label(tmp_path / "missing")


def test_tensorrt_itself_needs_the_gpu_it_builds_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "backend", lambda: types.SimpleNamespace(__name__="tensorrt", __version__="11.4.0"))
    monkeypatch.setattr(gpu, "gpu", lambda device=0: "")
    with pytest.raises(
        ArtifactError, match=r"tensorrt 11.4.0 builds engines on the GPU that will run them and finds none"
    ):
        gpu.target_platform()
    monkeypatch.setattr(gpu, "gpu", lambda device=0: "sm90")
    assert gpu.target_platform() == gpu.target_platform("9.0") == "tensorrt 11.4.0 sm90"
    with pytest.raises(ArtifactError, match=r"builds for this machine's sm90 alone, not for 8.9"):
        gpu.target_platform("8.9")


@pytest.mark.parametrize(("here", "target"), [("sm89", "sm89"), ("sm90", "portable"), ("", "portable")])
def test_rtx_builds_for_this_gpu_where_it_can(monkeypatch: pytest.MonkeyPatch, here: str, target: str) -> None:
    monkeypatch.setattr(gpu, "gpu", lambda device=0: here)
    assert gpu.target_platform() == f"{gpu.package(gpu.backend())} {target}"


def test_running_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "gpu", lambda device=0: "")
    with pytest.raises(EnvironmentProblem, match="engines run on an NVIDIA GPU and this machine has no CUDA device 3"):
        plan.plan_call(tmp_path, [toy_stage()], device=3)
    assert not can_run()


def test_a_torch_without_cuda_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "gpu", lambda device=0: "sm89")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EnvironmentProblem, match=r"torch .* cannot use the GPU; install a CUDA build"):
        plan.plan_call(tmp_path, [toy_stage()])
    assert not can_run()


class Context:
    """Computes what was bound with onnxruntime, through the addresses it was given."""

    def __init__(self, session: onnxruntime.InferenceSession, dtypes: dict[str, str]) -> None:
        self.session, self.dtypes = session, dtypes
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> None:
        assert address, f"{name} has no address"
        self.addresses[name] = address

    def array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        dtype = np.dtype(self.dtypes[name])
        count = int(np.prod(shape))
        buffer = (ctypes.c_char * (count * dtype.itemsize)).from_address(self.addresses[name])
        return np.frombuffer(buffer, dtype).reshape(shape)

    def results(self) -> Arrays:
        names = [value.name for value in self.session.get_outputs()]
        inputs = {name: self.array(name, shape) for name, shape in self.shapes.items()}
        return dict(zip(names, self.session.run(None, inputs), strict=True))

    def infer_shapes(self) -> list[str]:
        return [value.name for value in self.session.get_inputs() if value.name not in self.shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.results()[name].shape)

    def execute_async_v3(self, stream: int) -> bool:
        for name, value in self.results().items():
            self.array(name, value.shape)[...] = value
        return True


class Engine:
    """The part of an engine that the runner asks about."""

    def __init__(self, onnx_file: Path) -> None:
        self.stage = toy_stage()
        self.onnx_file = onnx_file
        self.tensors = [*self.stage.inputs, *self.stage.outputs]
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return self.tensors[index].name

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        tensor = next(t for t in self.stage.inputs if t.name == name)
        return [tensor.sizes(self.stage.sizes(end)) for end in ("lo", "opt", "hi")]

    def get_tensor_location(self, name: str) -> str:
        return "device"

    def create_execution_context(self) -> Context:
        session = onnxruntime.InferenceSession(self.onnx_file)
        return Context(session, {tensor.name: tensor.dtype for tensor in self.tensors})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build folder with an engine for the stand-in: TensorRT 11.4 on an sm90 whose memory is this process's."""
    platform = "tensorrt 11.4.0 sm90"
    export_stage(toy_stage(), tmp_path / "onnx/smooth.onnx")
    write_plan(tmp_path, label(platform).text())
    manifest.record(tmp_path, KEY, entry(platform))

    class Logger:
        Severity = types.SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)

    class Runtime:
        def __init__(self, log: Any) -> None:
            self.log = log

        def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
            if content.endswith(b"torn"):
                self.log.log(1, "the engine is torn")
                return None
            return Engine(tmp_path / "onnx/smooth.onnx")

    module = types.SimpleNamespace(
        __name__="tensorrt", __version__="11.4.0", ILogger=Logger, Runtime=Runtime,
        TensorLocation=types.SimpleNamespace(HOST="host"),
    )  # fmt: skip
    stream = types.SimpleNamespace(cuda_stream=1, synchronize=lambda: None)
    monkeypatch.setattr(gpu, "backend", lambda: module)
    monkeypatch.setattr(gpu, "gpu", lambda device=0: "sm90")
    monkeypatch.setattr(plan, "cuda_device", lambda index: torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    return tmp_path


@pytest.mark.parametrize("past", [0, 6, 12])
def test_the_runner_binds_every_tensor(folder: Path, past: int) -> None:
    stage = toy_stage()
    call = plan.plan_call(folder, [stage], "fp32")
    for seed, frames in enumerate((20, 1, 60)):
        inputs = stage.example({"batch": 2, "frames": frames, "past": past}, seed)
        wanted, found = onnx_call(folder, [stage])("smooth", **inputs), call("smooth", **inputs)
        assert wanted.keys() == found.keys()
        for name in wanted:
            np.testing.assert_array_equal(wanted[name], found[name])
    call.close()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"batch": 2, "frames": 61, "past": 6}, "x: frames is 61; the engine .*smooth.fp32.plan takes 1 to 60"),
        ({"batch": 5, "frames": 20, "past": 6}, "x: batch is 5; the engine .* takes 1 to 4"),
        ({"batch": 2, "frames": 20, "past": 13}, "state: past is 13; the engine .* takes 0 to 12"),
    ],
)
def test_sizes_outside_the_profile_are_refused(folder: Path, sizes: dict[str, int], message: str) -> None:
    stage = toy_stage()
    with pytest.raises(InvalidRequest, match=message):
        plan.plan_call(folder, [stage], "fp32")("smooth", **stage.example(sizes))


def test_only_recorded_engines_run_unless_one_is_being_built(folder: Path) -> None:
    stage = toy_stage()
    inputs = stage.example({"batch": 1, "frames": 4, "past": 0})
    manifest.write_manifest(folder, {})
    with pytest.raises(ArtifactError, match=r"smooth.fp32.plan is not in the build folder's manifest; run"):
        plan.plan_call(folder, [stage], "fp32")("smooth", **inputs)
    plan.plan_call(folder, [stage], "fp32", recorded=False)("smooth", **inputs)


def test_an_engine_of_another_machine_or_a_torn_one_does_not_run(folder: Path) -> None:
    stage = toy_stage()
    inputs = stage.example({"batch": 1, "frames": 4, "past": 0})
    path = folder / KEY
    path.write_bytes(path.read_bytes() + b"torn")
    with pytest.raises(ArtifactError, match="cannot be loaded: the engine is torn"):
        plan.plan_call(folder, [stage], "fp32")("smooth", **inputs)
    write_plan(folder, label("tensorrt 10.9.0 sm90").text())
    manifest.record(folder, KEY, entry("tensorrt 10.9.0 sm90"))
    message = "was built for sm90 with tensorrt 10.9.0, this machine has sm90 and tensorrt 11.4.0"
    with pytest.raises(ArtifactError, match=message):
        plan.plan_call(folder, [stage], "fp32")("smooth", **inputs)


def test_the_label_of_a_real_engine_decides_where_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "gpu", lambda device=0: "")
    export_stage(toy_stage(), tmp_path / "smooth.onnx")
    built = build_stage(toy_stage(), tmp_path / "smooth.onnx", tmp_path / KEY)
    package = " ".join(built.platform.split()[:2])
    check_plan(entry(built.platform), f"{package} sm89", tmp_path / KEY)
    with pytest.raises(ArtifactError, match=f"was built for portable with {package}, this machine has sm75"):
        check_plan(entry(built.platform), f"{package} sm75", tmp_path / KEY)
