"""The gate of quantised language models: a right export passes, and damage to its file is found."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.export_helpers import toy_llm

from tritone.export.to_genai import export_llm
from tritone.lm.genai import GenaiModel
from tritone.parity.compare import Row
from tritone.parity.quantised import LIMITS, compare_genai, divergence, other_choice, rows

SCALES = "model.layers.1.attn.o_proj.MatMul.weight_scales"


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llm") / "int8"
    export_llm(toy_llm(), folder, "int8")
    return folder


def gate(folder: Path) -> list[Row]:
    llm = dataclasses.replace(toy_llm(), examples=lambda: [[58, 41, 3, 17, 59], [58, 50, 49, 59]])
    with GenaiModel(folder).session() as session:
        return compare_genai(llm, session, "int8", seed=3)


def test_a_right_export_passes_every_limit(int8: Path) -> None:
    found = gate(int8)
    assert [row.point for row in found] == list(LIMITS["int8"]) and all(row.passed for row in found)
    assert [row.tolerance for row in found] == list(LIMITS["int8"].values())
    assert all(row.sizes["texts"] == 2 for row in found)


@pytest.mark.parametrize("factor", [0.0, 2.0, -1.0, np.nan])
def test_a_damaged_layer_is_found(int8: Path, tmp_path: Path, factor: float) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(int8, folder)
    model = onnx.load(folder / "model.onnx")
    (scales,) = (tensor for tensor in model.graph.initializer if tensor.name == SCALES)
    scales.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scales) * np.float32(factor), SCALES))
    (folder / "model.onnx.data").unlink()
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data")
    problems = [row.problem for row in gate(folder) if not row.passed]
    assert "the distribution of the next token differs" in problems or problems == ["logits are not finite"] * 3


def test_the_head_of_another_model_is_found(int8: Path) -> None:
    merged = toy_llm().merged
    assert merged is not None
    model, bias = merged()

    with GenaiModel(int8).session() as session:
        found = compare_genai(
            dataclasses.replace(toy_llm(), merged=lambda: (model, bias.flip(0))), session, "int8", seed=1
        )
    assert {row.problem for row in found} == {
        "logits differ", "the distribution of the next token differs", "other tokens are the most probable",
    }  # fmt: skip


def test_figures_of_known_distributions() -> None:
    wanted = np.log(np.array([[0.5, 0.25, 0.25], [0.4, 0.35, 0.25]], np.float32))
    found = np.log(np.array([[0.25, 0.5, 0.25], [0.35, 0.4, 0.25]], np.float32))
    first = 0.5 * np.log(2) - 0.25 * np.log(2)
    second = 0.4 * np.log(0.4 / 0.35) + 0.35 * np.log(0.35 / 0.4)
    assert divergence(wanted, found) == pytest.approx((first + second) / 2, rel=1e-5)
    assert divergence(wanted, wanted + 3) == pytest.approx(0, abs=1e-7)
    # Only the first step's preference is clear: twice as probable as the next.
    assert other_choice(wanted, found) == 0.5


def test_logits_that_are_not_finite_never_pass() -> None:
    wanted = np.zeros((2, 4), np.float32)
    found = rows("llm", "int8", wanted, np.full((2, 4), np.nan, np.float32), 1, 0, 0.0)
    assert [row.problem for row in found] == ["logits are not finite"] * 3 and not any(row.passed for row in found)
