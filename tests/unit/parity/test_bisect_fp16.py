"""The first bad node is named with its error, and the search keeps the needed nodes and no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support.export_helpers import BATCH, FRAMES, toy_family

from tritone.errors import ArtifactError
from tritone.export.onnx_graph import prepared
from tritone.export.to_fp16 import convert_stage
from tritone.export.to_onnx import export_stage
from tritone.parity import bisect_fp16
from tritone.parity.bisect_fp16 import Search
from tritone.parity.fp16_measures import measures
from tritone.parity.fp16_probe import BadNode, first_bad_node
from tritone.stage import Family, Stage, Tensor


class Loud(torch.nn.Module):
    """Multiplies by 1e5 in two steps whose factors fp16 can hold, and divides again."""

    def forward(self, x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x * gain * (gain / 10) / 1000 / 100) * 2


class Angle(torch.nn.Module):
    """The sine of a position's angle: fp16 holds the angle, but not its fraction of a turn."""

    def forward(self, x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        position = torch.arange(x.shape[1]).to(x.dtype)
        return torch.tanh(x * gain / 1000) + torch.sin(position * 1.7)


class Fine(torch.nn.Module):
    """Nothing delicate."""

    def forward(self, x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x) * 3 + gain / 1000


def stage(module: torch.nn.Module, **changes: object) -> Stage:
    """Return a stage of two inputs: `x` [batch, frames] and `gain` [1], which is 1000."""
    inputs = (Tensor("x", "float32", (BATCH, FRAMES)), Tensor("gain", "float32", (1,), (1000, 0)))
    values = {
        "name": "toy",
        "inputs": inputs,
        "outputs": (Tensor("y", "float32", (BATCH, FRAMES)),),
        "build": lambda: module,
    }
    return Stage(**(values | changes))  # type: ignore[arg-type]


def files(subject: Stage, folder: Path) -> tuple[Path, Path]:
    """Return the stage's fp32 and mixed files."""
    export_stage(subject, folder / "toy.onnx")
    convert_stage(subject, folder / "toy.onnx", folder / "toy.fp16.onnx")
    return folder / "toy.onnx", folder / "toy.fp16.onnx"


def found(subject: Stage, folder: Path, frames: int = 20, tolerance: float = 2e-2) -> BadNode | None:
    return first_bad_node(subject, *files(subject, folder), subject.example({"batch": 2, "frames": frames}), tolerance)


def test_an_injected_overflow_is_named(tmp_path: Path) -> None:
    bad = found(stage(Loud()), tmp_path)
    assert bad is not None and (bad.name, bad.op, bad.finite) == ("/Mul_1", "Mul", False)
    assert bad.error == bad.own == float("inf") and bad.introduced_by == "/Mul_1" and bad.peak > 65504
    assert str(bad) == "/Mul_1 (Mul): its output /Mul_1_output_0 is not finite in fp16"


def test_a_constant_that_overflows_is_named_at_conversion(tmp_path: Path) -> None:
    class Constant(torch.nn.Module):
        def forward(self, x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
            return torch.tanh(x * 1e5 * gain)

    with pytest.raises(ArtifactError, match=r"stage toy: node /Mul \(Mul\) has the constant 1e\+05"):
        files(stage(Constant()), tmp_path)


def test_an_error_is_named_where_it_is_introduced(tmp_path: Path) -> None:
    bad = found(stage(Angle()), tmp_path, frames=60)
    assert bad is not None and (bad.name, bad.op, bad.finite) == ("/Sin", "Sin", True)
    assert 2e-2 < bad.own <= bad.error < 1 and bad.introduced_by == "/Sin"


def test_a_kept_node_is_bad_only_by_what_came_before(tmp_path: Path) -> None:
    bad = found(stage(Angle(), keep_fp32=("/Sin",)), tmp_path, frames=60)
    assert bad is not None and bad.name == "/Sin" and bad.own == 0
    assert bad.introduced_by == "/Mul_1"
    assert str(bad).endswith("of its peak 1 in fp16, introduced by /Mul_1")


def test_nothing_bad_is_none(tmp_path: Path) -> None:
    subject = stage(Fine())
    assert found(subject, tmp_path) is None
    fp32, fp16 = (onnx.load(str(tmp_path / name)) for name in ("toy.onnx", "toy.fp16.onnx"))
    listed = list(measures(subject, prepared(fp32), fp16, subject.example({"batch": 2, "frames": 5})))
    assert [m.op for m in listed] == ["Tanh", "Mul", "Div", "Add"] and 0 < max(m.error for m in listed) < 2e-3


def test_measures_equal_the_rounded_graph(tmp_path: Path) -> None:
    from tritone.engines.onnx import open_session, run_session
    from tritone.export.fp16_rounding import rounded_call
    from tritone.parity.compare import relative_error

    subject = stage(Angle())
    fp32, fp16 = files(subject, tmp_path)
    inputs = subject.example({"batch": 2, "frames": 50})
    wanted, got = run_session(open_session(fp32), subject, inputs), rounded_call({"toy": fp16}, [subject])
    last = list(measures(subject, prepared(onnx.load(str(fp32))), onnx.load(str(fp16)), inputs))[-1]
    assert last.output == "y"
    assert last.error == pytest.approx(relative_error(wanted["y"], got("toy", **inputs)["y"]), rel=1e-3)


def test_a_mixed_file_of_another_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    fp32, _ = files(stage(Loud()), tmp_path)
    _, other = files(stage(Fine()), tmp_path / "other")
    with pytest.raises(ArtifactError, match=r"stage toy: node /Mul_1 is not in the fp16 graph; build it again"):
        first_bad_node(stage(Loud()), fp32, other, stage(Loud()).example({"batch": 2, "frames": 4}), 1e-2)


@pytest.mark.parametrize(
    ("module", "keep"), [(Loud(), ["/Mul_1", "/Div_1"]), (Angle(), ["/Mul_1", "/Sin"]), (Fine(), [])]
)
def test_the_search_keeps_what_is_needed_and_no_more(module: torch.nn.Module, keep: list[str], tmp_path: Path) -> None:
    subject = stage(module)
    export_stage(subject, tmp_path / "toy.onnx")
    search = Search(subject, tmp_path / "toy.onnx", [("usual", subject.example({"batch": 2, "frames": 60}))], 2e-2)
    result = search.minimal(lambda _: None)
    # The result of /Div_1 is in range, but what it divides is not.
    assert result == keep
    assert search.first_bad(result) is None
    for name in result:
        assert search.first_bad([other for other in result if other != name]) is not None


def test_patterns_cover_every_layer_of_a_kind() -> None:
    search = Search.__new__(Search)
    names = ["/blocks.0/Exp", "/blocks.11/Exp", "/blocks.0/Add_1", "/f0/Add"]
    assert search.patterns(names) == ("/blocks.*/Exp", "/blocks.*/Add_1", "/f0/Add")


@pytest.fixture
def angle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A build folder with the fp32 file of a family whose one stage computes an angle."""

    def family(_: Path) -> Family:
        return toy_family(stage(Angle()))

    monkeypatch.setattr(bisect_fp16, "open_family", family)
    export_stage(stage(Angle()), tmp_path / "onnx" / "toy.onnx")
    return tmp_path


def test_the_command_prints_patterns_that_suffice(angle: Path) -> None:
    lines: list[str] = []
    common = ["--model-dir", str(angle), "--out", str(angle), "--seed", "0"]
    assert bisect_fp16.main([*common, "--stage", "toy"], lines.append) == 0
    patterns = next(line for line in lines if line.startswith("toy: keep_fp32="))
    assert patterns == "toy: keep_fp32=('/Mul_1', '/Sin')"
    assert "largest" in lines[-1]
    lines.clear()
    assert bisect_fp16.main([*common, "--check"], lines.append) == 1
    assert "sizes /Sin (Sin): its output /Sin_output_0 differs by " in lines[0]


def test_the_command_says_what_is_missing(angle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--model-dir", str(angle), "--out", str(angle)]
    assert bisect_fp16.main([*common, "--stage", "absent"]) == 1
    assert "toy has no stage 'absent'; there are toy" in capsys.readouterr().err
    (angle / "onnx" / "toy.onnx").unlink()
    assert bisect_fp16.main(common) == 1
    assert "toy.onnx does not exist; run: tritone build" in capsys.readouterr().err


def test_inputs_cover_the_three_sizes() -> None:
    listed = bisect_fp16.cases(stage(Fine()), 0, quick=False)
    assert [(point, arrays["x"].shape) for point, arrays in listed] == [
        ("smallest", (1, 1)), ("smallest", (1, 1)), ("usual", (3, 20)), ("usual", (3, 20)), ("largest", (1, 60))
    ]  # fmt: skip
    assert not np.array_equal(listed[2][1]["x"], listed[3][1]["x"])
