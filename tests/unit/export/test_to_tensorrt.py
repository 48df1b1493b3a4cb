"""TensorRT plans, compiled by TensorRT-RTX without a GPU, and the message of every refusal."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import onnx
import pytest
import torch
from support.export_helpers import BATCH, FRAMES, Smooth, toy_stage

from tritone.engines import gpu
from tritone.engines.label import read_label
from tritone.errors import ArtifactError, ConfigError
from tritone.export import to_tensorrt
from tritone.export.tensorrt_options import options, profiled, read_profile
from tritone.export.to_onnx import export_stage
from tritone.export.to_tensorrt import Options, build_stage
from tritone.stage import Axis, Scaled, Stage, Tensor


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "smooth.onnx"
    export_stage(toy_stage(), path)
    return path


@pytest.fixture(autouse=True)
def rtx_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide TensorRT where it is installed: the tests are for TensorRT-RTX."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "gpu", lambda device=0: "")


@pytest.mark.usefixtures("no_gpu")
def test_an_engine_is_built_with_a_label_that_can_be_read_back(source: Path, tmp_path: Path) -> None:
    path, phases = tmp_path / "smooth.fp32.plan", []
    built = build_stage(toy_stage(), source, path, Options(progress=phases.append))
    label = read_label(path)
    assert label is not None and (label.stage, label.file) == ("smooth", "smooth.fp32.plan")
    assert label.platform == built.platform == to_tensorrt.platform(Options())
    assert built.platform.startswith("tensorrt_rtx ") and built.platform.endswith(" portable")
    assert built.bytes == path.stat().st_size > 1000
    assert built.activations is not None and built.activations > 0
    assert "Building engine" in phases
    assert [file.name for file in tmp_path.iterdir()] == ["smooth.fp32.plan"]


def test_the_engine_reserves_memory_for_its_profile(source: Path, tmp_path: Path) -> None:
    """The ranges reach the compiler: a narrow profile needs less memory at its largest sizes than a wide one."""
    wide = build_stage(toy_stage(), source, tmp_path / "wide.plan", Options("8.9"))
    narrow = build_stage(toy_stage(), source, tmp_path / "narrow.plan", Options("8.9", {"frames": (1, 2, 4)}))
    assert wide.activations and narrow.activations and narrow.activations < wide.activations
    assert narrow.platform == f"{wide.platform} frames=1/2/4"


def test_several_targets_make_another_engine(source: Path, tmp_path: Path) -> None:
    one = build_stage(toy_stage(), source, tmp_path / "plan", Options("8.9"))
    first = (tmp_path / "plan").read_bytes()
    two = build_stage(toy_stage(), source, tmp_path / "plan", Options("8.9,12.0"))
    assert one.platform.endswith(" sm89") and two.platform.endswith(" sm89+sm120")
    assert (tmp_path / "plan").read_bytes() != first


def test_a_mixed_precision_file_is_taken_as_it_is(source: Path, tmp_path: Path) -> None:
    class Half(Smooth):
        """Computes in fp16 between fp32 boundaries, as the mixed files do."""

        def forward(
            self, x: torch.Tensor, x_len: torch.Tensor, state: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            y, after = super().forward(x, x_len, state)
            return (y.half() * 0.5).float(), after

    stage = toy_stage(Half())
    export_stage(stage, tmp_path / "smooth.fp16.onnx")
    assert build_stage(stage, tmp_path / "smooth.fp16.onnx", tmp_path / "smooth.fp16.plan").bytes > 1000


def test_an_input_that_holds_sizes_is_profiled_by_its_values(tmp_path: Path) -> None:
    class Stretch(torch.nn.Module):
        def forward(self, x: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
            return x[:, None].expand(x.shape[0], count[0], x.shape[1]).flatten(1) * 2

    def stage(values: tuple[float, float]) -> Stage:
        inputs = (Tensor("x", "float32", (BATCH, 3)), Tensor("count", "int64", (1,), values))
        return Stage("stretch", inputs, (Tensor("y", "float32", (BATCH, Axis("out", 3, 6, 12))),), Stretch)

    export_stage(stage((2, 3)), tmp_path / "stretch.onnx")
    plans = []
    for folder, high in (("one", 5), ("two", 5), ("three", 5001)):
        path = tmp_path / folder / "stretch.plan"
        build_stage(stage((2, high)), tmp_path / "stretch.onnx", path)
        plans.append(path.read_bytes())
    assert plans[0] == plans[1] != plans[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outputs": toy_stage().outputs[:1]}, "has the outputs y, next_state, stage smooth declares y"),
        (
            {"inputs": (Tensor("x", "float32", (BATCH, 3, Axis("ticks", 1, 20, 60))), *toy_stage().inputs[1:])},
            r"x is float32 \[batch, 3, frames\], stage smooth declares float32 \[batch, 3, ticks\]",
        ),
        (
            {"inputs": (Tensor("x", "float32", (BATCH, 4, FRAMES)), *toy_stage().inputs[1:])},
            r"x is float32 \[batch, 3, frames\], stage smooth declares float32 \[batch, 4, frames\]",
        ),
        (
            {"inputs": (toy_stage().inputs[0], Tensor("x_len", "int64", (BATCH,)), toy_stage().inputs[2])},
            r"x_len is int32 \[batch\], stage smooth declares int64 \[batch\]",
        ),
    ],
)
def test_a_file_of_other_tensors_is_refused(source: Path, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ArtifactError, match=f"smooth.onnx.*{message}"):
        build_stage(toy_stage(**changes), source, tmp_path / "smooth.plan")
    assert list(tmp_path.iterdir()) == []


def test_fixed_sizes_in_the_file_are_refused(source: Path, tmp_path: Path) -> None:
    model = onnx.load(source)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 20
    onnx.save(model, tmp_path / "fixed.onnx")
    with pytest.raises(ArtifactError, match=r"fixed.onnx: x is float32 \[batch, 3, 20\], stage smooth declares"):
        build_stage(toy_stage(), tmp_path / "fixed.onnx", tmp_path / "smooth.plan")


def test_tensors_of_a_ready_made_file_go_by_position_and_get_the_declared_names(source: Path, tmp_path: Path) -> None:
    names = {"x": "signal", "x_len": "n", "state": "memory"}
    inputs = tuple(Tensor(names[t.name], t.dtype, t.shape, t.values, t.length_of) for t in toy_stage().inputs)
    stage = toy_stage(inputs=inputs, build=None, file="smooth.onnx")
    path = tmp_path / "smooth.plan"
    build_stage(stage, source, path)
    content = path.read_bytes()
    assert b"signal" in content and b"memory" in content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an ONNX file", "cannot read .*odd.onnx: .*"),
        (None, "odd.onnx does not exist; the plan of smooth is made from it; run: tritone build --formats onnx"),
    ],
)
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    source = tmp_path / "odd.onnx"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        build_stage(toy_stage(), source, tmp_path / "smooth.plan")


def test_every_node_the_parser_refuses_is_listed(source: Path, tmp_path: Path) -> None:
    model = onnx.load(source)
    node = model.graph.node[-1]
    node.op_type, node.domain, node.name = "Frobnicate", "elsewhere", "strange_node"
    model.opset_import.append(onnx.helper.make_opsetid("elsewhere", 1))
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(ArtifactError, match=r"cannot read .*Frobnicate.*strange_node"):
        build_stage(toy_stage(), tmp_path / "odd.onnx", tmp_path / "smooth.plan")


def test_a_workspace_that_is_too_small_is_said(tmp_path: Path) -> None:
    big = toy_stage(
        inputs=(Tensor("x", "float32", (BATCH, 64, Axis("frames", 1, 200, 100_000))),),
        outputs=(Tensor("y", "float32", (BATCH, 64, Axis("frames", 1, 200, 100_000))),),
        build=lambda: torch.nn.Sequential(*(torch.nn.Conv1d(64, 64, 3, padding=1) for _ in range(3))).eval(),
    )
    export_stage(big, tmp_path / "big.onnx")
    with pytest.raises(ArtifactError, match=r"cannot compile .*big.onnx for sm89: .*workspace"):
        build_stage(big, tmp_path / "big.onnx", tmp_path / "big.plan", Options("8.9", workspace=1))
    assert not (tmp_path / "big.plan").exists()


@pytest.mark.parametrize(
    ("capability", "error", "message"),
    [
        ("9.0", ArtifactError, "cannot build for sm90; it supports sm75, sm80"),
        ("ada", ConfigError, """compute capability 'ada'; write "8.9", or several as "8.6,8.9\""""),
    ],
)
def test_a_target_that_does_not_exist_is_refused(
    source: Path, tmp_path: Path, capability: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build_stage(toy_stage(), source, tmp_path / "smooth.plan", Options(capability))


def test_without_tensorrt_both_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, source: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    message = r"no TensorRT here \(tensorrt: .*; tensorrt_rtx: .*NVIDIA's index.*tensorrt_rtx_cu13.*other formats"
    with pytest.raises(ArtifactError, match=message):
        to_tensorrt.available()
    with pytest.raises(ArtifactError, match=message):
        build_stage(toy_stage(), source, tmp_path / "smooth.plan")


def test_the_way_of_tensorrt_10_compiles_too(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strong typing by flag and a timing cache, on the real API; TensorRT-RTX keeps an empty cache, but keeps it."""
    monkeypatch.setattr(gpu, "is_rtx", lambda module: False)
    monkeypatch.setattr(gpu, "gpu", lambda device=0: "sm89")
    given: list[bytes] = []
    real = to_tensorrt.use_timing_cache

    def spy(trt: object, config: object, path: Path) -> None:
        given.append(path.read_bytes() if path.is_file() else b"")
        real(trt, config, path)

    monkeypatch.setattr(to_tensorrt, "use_timing_cache", spy)
    cache = tmp_path / "tensorrt" / "timing.cache"
    engine_options = options(tmp_path, None, [], [toy_stage()])
    for _ in range(2):
        assert build_stage(toy_stage(), source, tmp_path / "smooth.plan", engine_options).platform.endswith(" sm89")
    assert given[0] == b"" and given[1] == cache.read_bytes() != b""
    cache.write_bytes(b"torn")
    build_stage(toy_stage(), source, tmp_path / "smooth.plan", engine_options)
    assert cache.read_bytes() == given[1]


@pytest.mark.parametrize(("version", "flags"), [("10.9.0.34", 1 << 1), ("11.4.0", 0)])
def test_strong_typing_is_asked_for_where_it_is_a_choice(version: str, flags: int) -> None:
    creation = types.SimpleNamespace(STRONGLY_TYPED=1)
    module = types.SimpleNamespace(__name__="tensorrt", __version__=version, NetworkDefinitionCreationFlag=creation)
    assert to_tensorrt.creation_flags(module) == flags


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frames", "profile 'frames'; write axis=smallest/usual/largest"),
        ("frames=1/2", "profile 'frames=1/2'; write"),
        ("ticks=1/2/3", "axis 'ticks', which no stage has; the axes are batch, frames, past"),
        ("frames=20/10/30", "frames=20/10/30 is inverted; need smallest <= usual <= largest"),
        ("frames=1/20/61", "frames=1/20/61 is out of range; frames is declared as 1 to 60"),
        ("frames=0/20/60", "frames=0/20/60 is out of range"),
    ],
)
def test_profiles_that_do_not_fit_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_profile(text, [toy_stage()])


def test_a_profile_replaces_the_ranges_everywhere_they_are_named() -> None:
    found = options(Path("out"), None, ["frames=2/3/4,batch=1/1/2", "frames=3/3/5"], [toy_stage()])
    assert found.profile == {"frames": (3, 3, 5), "batch": (1, 1, 2)}
    stage = profiled(toy_stage(), found.profile)
    frames = Axis("frames", 3, 3, 5)
    assert stage.axes == (Axis("batch", 1, 1, 2), frames, Axis("past", 0, 6, 12))
    assert stage.outputs[0].shape[2] == Scaled(2, frames) and stage.inputs[1].length_of == frames
