"""Stages too large for one ONNX file: the same numbers with a data file, and a message when it is missing."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support.export_helpers import toy_family

from tritone.build import manifest
from tritone.build.hashes import Hashes
from tritone.build.layout import stage_path
from tritone.engines.onnx import onnx_call, open_session
from tritone.errors import ArtifactError
from tritone.export import build_engines, onnx_file, to_fp16, to_onnx
from tritone.export.fp16_rounding import rounded_call
from tritone.export.onnx_file import load, save, values_of
from tritone.export.to_fp16 import convert_stage
from tritone.export.to_onnx import export_stage
from tritone.export.to_tensorrt import build_stage
from tritone.parity import check_build as parity
from tritone.stage import Axis, Stage, Tensor

SHAPE = (Axis("batch", 1, 1, 4), Axis("frames", 1, 5, 9))
NAMES = ["wide.fp16.onnx", "wide.fp16.onnx.data", "wide.onnx", "wide.onnx.data"]


class Wide(torch.nn.Module):
    """A table, two large layers and a small one, with a reshape to a constant size between them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(20, 32)
        self.layers = torch.nn.Sequential(torch.nn.Linear(32, 48), torch.nn.Tanh(), torch.nn.Linear(48, 32))
        self.last = torch.nn.Linear(4, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        parts = self.layers(self.table(ids)).reshape(ids.shape[0], -1, 8, 4)
        return self.last(parts).flatten(2)


STAGE = Stage(
    "wide", (Tensor("ids", "int64", SHAPE, values=(0, 20)),), (Tensor("y", "float32", (*SHAPE, 16)),),
    lambda: Wide().eval(), keep_fp32=("/layers/layers.2/*",),
)  # fmt: skip


def exported(folder: Path, largest: int) -> Path:
    """Return a build folder with both precisions of the stage."""
    fp32, fp16 = stage_path(folder, "wide"), stage_path(folder, "wide", "fp16")
    export_stage(STAGE, fp32, largest=largest)
    convert_stage(STAGE, fp32, fp16, largest)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("whole"), onnx_file.LARGEST_BYTES)


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    return exported(tmp_path / "apart", 4000)


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "onnx").iterdir())


def test_the_weights_lie_beside_a_graph_that_is_the_same(whole: Path, apart: Path) -> None:
    assert listed(whole) == [name for name in NAMES if not name.endswith("data")]
    assert listed(apart) == NAMES
    for precision in ("fp32", "fp16"):
        path = stage_path(apart, "wide", precision)
        one, other = onnx.load(stage_path(whole, "wide", precision)), onnx.load(path, load_external_data=False)
        assert list(one.graph.node) == list(other.graph.node) and list(one.graph.input) == list(other.graph.input)
        away = {t.name: t for t in other.graph.initializer if t.data_location == TensorProto.EXTERNAL}
        assert len(away) == 3 and {name for t in away.values() for name in [t.external_data[0].value]} == {
            f"{path.name}.data"
        }
        assert {int(t.external_data[1].value) % 4096 for t in away.values()} == {0}
        assert sum(map(len, (t.raw_data for t in other.graph.initializer))) < 1000
        for found, wanted in zip(load(path).graph.initializer, one.graph.initializer, strict=True):
            assert np.array_equal(values_of(found), numpy_helper.to_array(wanted)) and found.name == wanted.name


@pytest.mark.parametrize("frames", [1, 7])
def test_it_computes_the_same(whole: Path, apart: Path, frames: int) -> None:
    inputs = STAGE.example({"batch": 2, "frames": frames})
    for precision in ("fp32", "fp16"):
        calls = [onnx_call(folder, [STAGE], precision=precision) for folder in (whole, apart)]
        one, other = (call("wide", **inputs)["y"] for call in calls)
        # Weights of a single file are packed for other kernels.
        assert np.abs(one - other).max() < 1e-6 * np.abs(one).max()
    paths = [stage_path(folder, "wide", "fp16") for folder in (whole, apart)]
    one, other = (rounded_call({"wide": path}, [STAGE])("wide", **inputs)["y"] for path in paths)
    assert np.array_equal(one, other)
    wanted = Wide().eval()(torch.from_numpy(inputs["ids"])).detach().numpy()
    assert np.abs(wanted - other).max() < 2e-3 * np.abs(wanted).max()


def test_weights_in_a_data_file_are_not_copied_when_it_is_opened(whole: Path, apart: Path) -> None:
    key, found = "session.disable_prepacking", []
    for folder in (whole, apart):
        try:
            found.append(open_session(stage_path(folder, "wide")).get_session_options().get_session_config_entry(key))
        except RuntimeError:
            found.append("not set")
    assert found == ["not set", "1"]


def test_one_that_fits_again_has_no_data_file(whole: Path, apart: Path) -> None:
    export_stage(STAGE, stage_path(apart, "wide"))
    convert_stage(STAGE, stage_path(apart, "wide"), stage_path(apart, "wide", "fp16"))
    assert listed(apart) == listed(whole)
    assert all(stage_path(one, "wide").read_bytes() for one in (whole, apart))


def test_weights_come_back_into_a_file_that_holds_them(whole: Path, apart: Path, tmp_path: Path) -> None:
    save(load(stage_path(apart, "wide")), tmp_path / "one.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == stage_path(whole, "wide").read_bytes()
    assert not (tmp_path / "one.onnx.data").exists()


def test_a_file_for_each_weight_is_read(whole: Path, tmp_path: Path) -> None:
    """Beyond protobuf's limit the tracing exporter puts every tensor outside, even small ones in nodes."""
    model = onnx.load(stage_path(whole, "wide"))
    wanted = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    value = numpy_helper.from_array(np.arange(400, dtype=np.float32), "value")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["spare"], value=value))
    onnx.save(
        model, str(tmp_path / "a.onnx"), save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0,
        convert_attribute=True,
    )  # fmt: skip
    assert len(list(tmp_path.iterdir())) > 6
    found = load(tmp_path / "a.onnx")
    assert np.array_equal(values_of(found.graph.node[0].attribute[0].t), np.arange(400))
    small = [t for t in found.graph.initializer if t.data_location != TensorProto.EXTERNAL]
    assert small and all(len(t.raw_data) < onnx_file.INLINE for t in small)
    assert all(np.array_equal(values_of(t), wanted[t.name]) for t in found.graph.initializer)


def test_a_lost_data_file_is_named_with_what_to_run(apart: Path, tmp_path: Path) -> None:
    path = stage_path(apart, "wide")
    data = path.with_name("wide.onnx.data")
    data.rename(tmp_path / "elsewhere")
    message = rf"wide.onnx keeps weights in {data}, which does not exist; run: tritone build"
    with pytest.raises(ArtifactError, match=message):
        open_session(path)
    with pytest.raises(ArtifactError, match=message):
        convert_stage(STAGE, path, tmp_path / "b.onnx")
    with pytest.raises(ArtifactError, match=message):
        build_stage(STAGE, path, tmp_path / "b.plan")
    data.write_bytes((tmp_path / "elsewhere").read_bytes()[:-4097])
    with pytest.raises(ArtifactError, match=rf"{data} is shorter than {path} says; run: tritone build"):
        load(path)
    with pytest.raises(ArtifactError, match=r"wide.onnx cannot be loaded \(.*; run: tritone build"):
        open_session(path)


def test_weights_from_another_folder_are_not_read(apart: Path) -> None:
    path = stage_path(apart, "wide")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../secret" if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match=r"keeps weights in .*\.\./secret, which is not beside it"):
        load(path)


def test_an_engine_is_built_from_it(apart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    path = stage_path(apart, "wide")
    assert build_stage(STAGE, path, tmp_path / "wide.plan").bytes > 20 * 32 * 4
    before = Hashes().tree(path)
    with open(path.with_name("wide.onnx.data"), "r+b") as file:
        file.write(b"\1")
    assert Hashes().tree(path) != before


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Command-line options of a checkpoint whose one stage is too large for a file."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "net.pt").write_bytes(b"weights")
    for module in (build_engines, parity):
        monkeypatch.setattr(module, "open_family", lambda _: toy_family(STAGE))
    monkeypatch.setattr(to_onnx, "export_stage", functools.partial(export_stage, largest=4000))
    monkeypatch.setattr(to_fp16, "convert_stage", functools.partial(convert_stage, largest=4000))
    options = ["--model-dir", str(tmp_path / "model"), "--out", str(tmp_path / "build")]
    return [*options, "--formats", "onnx", "--precision", "fp32,fp16"]


def test_a_build_folder_keeps_track_of_data_files(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = tmp_path / "build"
    assert build_engines.main(command) == 0 and listed(build) == NAMES
    recorded = json.loads((build / manifest.MANIFEST).read_text())["artifacts"]["onnx/wide.onnx"]
    both = [stage_path(build, "wide"), build / "onnx" / "wide.onnx.data"]
    assert recorded["data"] is True and recorded["bytes"] == sum(path.stat().st_size for path in both)
    assert parity.main(command) == 0 and capsys.readouterr().out.count("onnx") >= 6
    assert build_engines.main(command) == 0 and "up to date" in capsys.readouterr().out
    content = bytearray(both[1].read_bytes())
    content[0] ^= 255
    both[1].write_bytes(content)
    assert build_engines.main([*command, "--dry-run"]) == 0
    assert "wide.onnx was changed after it was built" in capsys.readouterr().out
    both[1].unlink()
    assert build_engines.main([*command, "--dry-run"]) == 0
    assert f"wide.onnx keeps weights in {both[1]}, which does not exist" in capsys.readouterr().out
    with pytest.raises(ArtifactError, match=r"wide.onnx.data, which does not exist.* Run: tritone build"):
        manifest.verify(build, toy_family(STAGE), tmp_path / "model")
    assert build_engines.main(command) == 0 and listed(build) == NAMES
    manifest.discard(build, "onnx/wide.onnx")
    assert listed(build) == NAMES[:2]
