"""The parity gate: it passes correct exports and names the faults of wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.export_helpers import BATCH, FRAMES, Baked, Smooth, toy_stage, worse

from tritone.build.layout import stage_path
from tritone.engines.onnx import onnx_call
from tritone.engines.torch import torch_call
from tritone.export.to_onnx import export_stage
from tritone.parity import compare
from tritone.parity.compare import compare_stage, points, relative_error
from tritone.parity.report import table
from tritone.stage import Arrays, Tensor


def rows(folder: Path, module: Smooth | None = None, **changes: Any) -> list[compare.Row]:
    """Return the comparison of an export of `module` with the stage's own module."""
    stage = toy_stage(**changes)
    export_stage(stage, stage_path(folder, "smooth"), module or Smooth())
    return list(compare_stage(stage, torch_call([stage]), onnx_call(folder, [stage]), "onnx fp32", seed=3))


def test_a_right_export_passes_at_three_sizes(tmp_path: Path) -> None:
    found = rows(tmp_path)
    assert [row.point for row in found] == ["smallest", "usual", "largest"]
    assert [dict(row.sizes) for row in found] == [
        {"batch": 1, "frames": 1, "past": 0},
        {"batch": 3, "frames": 20, "past": 6},
        {"batch": 1, "frames": 60, "past": 12},
    ]
    assert all(row.passed and row.error < 1e-5 and set(row.outputs) == {"y", "next_state"} for row in found)


def test_quick_leaves_out_the_largest() -> None:
    assert [name for name, _ in points(toy_stage(), quick=True)] == ["smallest", "usual"]


def test_wrong_weights_are_named(tmp_path: Path) -> None:
    found = rows(tmp_path, worse())
    assert not found[1].passed and found[1].problem == "y differs"
    assert 1e-4 < found[1].error < 1e-1


def test_a_size_baked_into_the_trace_is_found(tmp_path: Path) -> None:
    found = rows(tmp_path, Baked())
    assert [row.passed for row in found] == [True, True, False]  # traced at the usual size: longer input is cut
    assert found[2].problem.startswith("y has shape [1, 3, 40], the module [1, 3, 120], declared is [1, 3, 120]")


def test_a_wrong_declaration_is_found(tmp_path: Path) -> None:
    found = rows(tmp_path, outputs=(Tensor("y", "float32", (BATCH, 5, FRAMES)), toy_stage().outputs[1]))
    assert "y has shape" in found[1].problem and "declared is [3, 5, 20]" in found[1].problem


def test_an_engine_that_fails_is_a_failed_row(tmp_path: Path) -> None:
    def broken(stage_name: str, **arrays: np.ndarray) -> Arrays:
        raise RuntimeError("no kernel\nmore")

    stage = toy_stage()
    found = list(compare_stage(stage, torch_call([stage]), broken, "onnx fp32", 0))
    assert [row.problem for row in found] == ["failed: no kernel"] * 3
    assert "FAILED failed: no kernel" in table(found)


def test_relative_error_of_next_to_nothing() -> None:
    assert relative_error(np.array([1e-3]), np.array([2e-3]), scale=10.0) == pytest.approx(1e-4)
    assert relative_error(np.array([50.0]), np.array([49.0]), scale=10.0) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("reference", "found", "error"),
    [
        ([2.0, -4.0], [2.0, -3.0], 0.25),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [0.0, 1e-9], np.inf),
        ([1.0, np.nan], [1.0, np.nan], np.inf),
        ([1.0, 1.0], [1.0, np.inf], np.inf),
        ([], [], 0.0),
    ],
)
def test_relative_error(reference: list[float], found: list[float], error: float) -> None:
    assert relative_error(np.array(reference, np.float32), np.array(found, np.float32)) == pytest.approx(error)
