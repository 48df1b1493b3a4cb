"""Running stages by name on torch and onnxruntime, and what is said of arrays that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.export_helpers import BATCH, FRAMES, PAST, Smooth, toy_stage

from tritone.build.layout import stage_path
from tritone.engines import onnx as module
from tritone.engines.inputs import check_inputs, dim_text, tensor_text
from tritone.engines.onnx import decodes, onnx_call
from tritone.engines.torch import torch_call
from tritone.errors import ArtifactError, InvalidRequest
from tritone.export.to_onnx import export_stage
from tritone.families.cosyvoice.checkpoint.folder import YAMLS
from tritone.families.cosyvoice.family import published
from tritone.stage import Arrays, Axis, Scaled, Tensor


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    export_stage(toy_stage(), stage_path(folder, "smooth"))
    return folder


def arrays(batch: int = 2, frames: int = 5, past: int = 3) -> Arrays:
    return toy_stage().example({"batch": batch, "frames": frames, "past": past}, seed=1)


def test_dimensions_in_words() -> None:
    assert [dim_text(d) for d in (80, FRAMES, Scaled(480, FRAMES), Scaled(2, FRAMES, 3), Scaled(1, FRAMES, -2))] == [
        "80", "frames", "480*frames", "2*frames+3", "frames-2",
    ]  # fmt: skip
    assert tensor_text(Tensor("x", "float32", (BATCH, 3, FRAMES))) == "float32 [batch, 3, frames]"


@pytest.mark.parametrize(("frames", "past"), [(5, 3), (1, 0), (60, 12)])
def test_onnx_gives_what_torch_gives(built: Path, frames: int, past: int) -> None:
    given = arrays(3, frames, past)
    wanted, found = torch_call([toy_stage()])("smooth", **given), onnx_call(built, [toy_stage()])("smooth", **given)
    assert list(found) == ["y", "next_state"]
    for name, value in wanted.items():
        assert found[name].shape == value.shape
        np.testing.assert_allclose(found[name], value, atol=1e-5)


@pytest.mark.parametrize("which", ["torch", "onnx"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "x: stage smooth needs it; given x_len, state of x, x_len, state"),
        ({"y": np.zeros(1)}, "y: stage smooth has no such input; its inputs are x, x_len, state"),
        (
            {"x_len": np.zeros(2, np.int64)},
            r"x_len: stage smooth takes int32 \[batch\], got int64 \[2\]",
        ),
        (
            {"x": np.zeros((2, 3), np.float32)},
            r"x: stage smooth takes float32 \[batch, 3, frames\], got float32 \[2, 3\]",
        ),
        ({"x": np.zeros((2, 4, 5), np.float32)}, r"takes float32 \[batch, 3, frames\], got float32 \[2, 4, 5\]"),
        ({"state": np.zeros((1, 3, 3), np.float32)}, r"got float32 \[1, 3, 3\]; batch is 2 by input x$"),
    ],
)
def test_arrays_that_do_not_fit_are_named(
    built: Path, which: str, change: dict[str, np.ndarray | None], message: str
) -> None:
    call = torch_call([toy_stage()]) if which == "torch" else onnx_call(built, [toy_stage()])
    given = {name: value for name, value in (arrays() | change).items() if value is not None}
    with pytest.raises(InvalidRequest, match=f"^INVALID_ARGUMENT: .*{message}"):
        call("smooth", **given)


def test_a_size_that_is_no_multiple_is_refused() -> None:
    even = Axis("pairs", 1, 2, 3)
    stage = toy_stage(inputs=(Tensor("x", "float32", (Scaled(2, even, 1),)), Tensor("z", "float32", (even,))))
    check_inputs(stage, {"x": np.zeros(5, np.float32), "z": np.zeros(2, np.float32)})
    with pytest.raises(InvalidRequest, match=r"x: stage smooth takes float32 \[2\*pairs\+1\], got float32 \[4\]"):
        check_inputs(stage, {"x": np.zeros(4, np.float32), "z": np.zeros(2, np.float32)})


def test_an_unknown_stage_is_answered_with_those_that_exist(built: Path) -> None:
    for call in (torch_call([toy_stage()]), onnx_call(built, [toy_stage()])):
        with pytest.raises(KeyError, match="there is no stage 'vocoder'; there are smooth"):
            call("vocoder")


def test_sessions_open_late_unless_asked(tmp_path: Path) -> None:
    call = onnx_call(tmp_path, [toy_stage()])
    message = "smooth.onnx does not exist; run: tritone build"
    with pytest.raises(ArtifactError, match=message):
        call("smooth", **arrays())
    with pytest.raises(ArtifactError, match=message):
        onnx_call(tmp_path, [toy_stage()], eager=True)


def test_a_truncated_file_is_reported(built: Path, tmp_path: Path) -> None:
    path = stage_path(tmp_path, "smooth")
    path.parent.mkdir()
    path.write_bytes(stage_path(built, "smooth").read_bytes()[:500])
    with pytest.raises(ArtifactError, match=r"smooth.onnx cannot be loaded \(.*run: tritone build"):
        onnx_call(tmp_path, [toy_stage()], eager=True)


@pytest.mark.parametrize(
    ("field", "tensors", "message"),
    [
        (
            "inputs",
            (
                ("a", (BATCH, 3, FRAMES), "float32"),
                ("x_len", (BATCH,), "int32"),
                ("state", (BATCH, 3, PAST), "float32"),
            ),
            "has the inputs x, x_len, state, stage smooth declares a, x_len, state",
        ),
        (
            "inputs",
            (
                ("x", (BATCH, 3, FRAMES), "float32"),
                ("x_len", (BATCH,), "int64"),
                ("state", (BATCH, 3, PAST), "float32"),
            ),
            r"x_len is tensor\(int32\) \[batch\], stage smooth declares int64 \[batch\]",
        ),
        (
            "inputs",
            (("x", (BATCH, 3, PAST), "float32"), ("x_len", (BATCH,), "int32"), ("state", (BATCH, 3, PAST), "float32")),
            r"x is tensor\(float\) \[batch, 3, frames\], stage smooth declares float32 \[batch, 3, past\]",
        ),
        (
            "outputs",
            (("y", (BATCH, 3, FRAMES), "float32"),),
            "has the outputs y, next_state, stage smooth declares y",
        ),
    ],
)
def test_a_file_of_another_declaration_is_refused(
    built: Path, field: str, tensors: tuple[tuple[str, tuple[int, ...], str], ...], message: str
) -> None:
    declared = tuple(Tensor(name, dtype, shape) for name, shape, dtype in tensors)
    with pytest.raises(ArtifactError, match=message):
        onnx_call(built, [toy_stage(**{field: declared})], eager=True)


def test_a_ready_made_stage_has_no_torch_module() -> None:
    with pytest.raises(ArtifactError, match=r"stage smooth is the ready-made file given.onnx; it has no torch module"):
        torch_call([toy_stage(build=None, file="given.onnx")])("smooth", **arrays())


def test_a_ready_made_file_goes_by_position(built: Path) -> None:
    renamed = tuple(Tensor(f"my_{t.name}", t.dtype, t.shape) for t in toy_stage().inputs)
    stage = toy_stage(inputs=renamed, outputs=(*toy_stage().outputs,), build=None, file="given.onnx")
    given = arrays()
    found = onnx_call(built, [stage], eager=True)("smooth", **{f"my_{name}": value for name, value in given.items()})
    wanted = torch_call([toy_stage(Smooth())])("smooth", **given)
    np.testing.assert_allclose(found["y"], wanted["y"], atol=1e-5)


def test_only_what_is_run_for_every_token_keeps_memory_between_runs(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [stage for yaml in YAMLS.values() for stage in published(yaml).stages]
    assert {stage.name for stage in stages if decodes(stage)} == {"llm_step"}
    opened, kept = module.open_session, []

    def remembering(path: Path, threads: int, arena: bool) -> object:
        session = opened(path, threads, arena)
        kept.append(session.get_session_options().enable_cpu_mem_arena)
        return session

    monkeypatch.setattr(module, "open_session", remembering)
    onnx_call(built, [toy_stage()], eager=True)
    monkeypatch.setattr(module, "decodes", lambda stage: stage.name == "smooth")
    onnx_call(built, [toy_stage()], eager=True)
    assert kept == [False, True]
