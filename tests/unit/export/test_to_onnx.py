"""ONNX export: axes stay dynamic, and refusals name the difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from support.export_helpers import BATCH, FRAMES, Smooth, toy_stage

from tritone.errors import ArtifactError, CheckpointError
from tritone.export.to_onnx import OPSET, export_stage, link_ready_made
from tritone.stage import Tensor


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "smooth.onnx"
    export_stage(toy_stage(), path)
    return path


def test_the_file_has_the_declared_boundary(exported: Path) -> None:
    session = onnxruntime.InferenceSession(exported)
    found = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    assert found == {
        "x": ["batch", 3, "frames"],
        "x_len": ["batch"],
        "state": ["batch", 3, "past"],
        "y": ["batch", 3, "2*frames"],
        "next_state": ["batch", 3, "next_past"],
    }
    opsets = {entry.domain: entry.version for entry in onnx.load(exported).opset_import}
    assert opsets[""] == OPSET
    assert [path.name for path in exported.parent.iterdir()] == ["smooth.onnx"]


def test_an_empty_state_runs(exported: Path) -> None:
    inputs = toy_stage().example({"batch": 2, "frames": 4, "past": 0})
    y, after = onnxruntime.InferenceSession(exported).run(None, inputs)
    assert y.shape == (2, 3, 8) and after.shape == (2, 3, 4) and np.isfinite(y).all()


def test_an_output_of_another_dtype_is_refused(tmp_path: Path) -> None:
    outputs = (Tensor("y", "int64", (BATCH, 3, FRAMES)), toy_stage().outputs[1])
    message = r"smooth.onnx: y is tensor\(float\) \[batch, 3, .*\], stage smooth declares int64 \[batch, 3, frames\]"
    with pytest.raises(ArtifactError, match=message):
        export_stage(toy_stage(outputs=outputs), tmp_path / "smooth.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_output_of_another_size_is_refused(tmp_path: Path) -> None:
    outputs = (toy_stage().outputs[0], Tensor("next_state", "float32", (BATCH, 5, FRAMES)))
    message = r"next_state is tensor\(float\) \[batch, 3, .*\], stage smooth declares float32 \[batch, 5, frames\]"
    with pytest.raises(ArtifactError, match=message):
        export_stage(toy_stage(outputs=outputs), tmp_path / "smooth.onnx")


def test_a_failed_export_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "smooth.onnx"
    export_stage(toy_stage(), path)
    before = path.read_bytes()
    with pytest.raises(ArtifactError):
        export_stage(toy_stage(outputs=(Tensor("y", "int64", (BATCH, 3, FRAMES)), toy_stage().outputs[1])), path)
    assert path.read_bytes() == before


def test_ready_made_files_are_linked_and_checked(exported: Path, tmp_path: Path) -> None:
    stage = toy_stage(build=None, file="smooth.onnx")
    link_ready_made(stage, exported.parent, tmp_path / "onnx" / "smooth.onnx")
    assert (tmp_path / "onnx" / "smooth.onnx").read_bytes() == exported.read_bytes()
    with pytest.raises(
        CheckpointError, match=r"absent.onnx does not exist; stage smooth needs it; ONNX files found: smooth"
    ):
        link_ready_made(toy_stage(build=None, file="absent.onnx"), exported.parent, tmp_path / "a.onnx")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "smooth.onnx").write_bytes(exported.read_bytes()[:300])
    with pytest.raises(ArtifactError, match=r"bad/smooth.onnx is not a valid ONNX file: "):
        link_ready_made(stage, tmp_path / "bad", tmp_path / "b.onnx")
    fewer = toy_stage(build=None, file="smooth.onnx", inputs=toy_stage().inputs[:2])
    with pytest.raises(ArtifactError, match="has the inputs x, x_len, state, stage smooth declares x, x_len"):
        link_ready_made(fewer, exported.parent, tmp_path / "c.onnx")


def test_the_module_need_not_be_built_twice(tmp_path: Path) -> None:
    def never() -> object:
        raise AssertionError("built")

    export_stage(toy_stage(build=never), tmp_path / "smooth.onnx", Smooth().eval())
    assert (tmp_path / "smooth.onnx").is_file()
