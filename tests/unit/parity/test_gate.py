"""The parity gate reports an overflow and a clipped length by name, and compares speech as sound."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.export_helpers import BATCH, FRAMES, toy_family, toy_stage

from tritone.audio.distance import log_mel_difference, signal_to_noise
from tritone.build.artifacts import Artifact
from tritone.build.layout import stage_key, stage_path
from tritone.engines.onnx import onnx_call
from tritone.engines.torch import torch_call
from tritone.export.to_fp16 import convert_stage
from tritone.export.to_onnx import export_stage
from tritone.lm.logits import LogitsLm
from tritone.parity import end_to_end
from tritone.parity.compare import compare_artifact, compare_stage
from tritone.parity.engines import engine_call
from tritone.parity.report import table
from tritone.stage import Axis, Scaled, Stage, Tensor


class Loud(torch.nn.Module):
    """A value beyond 65504 between two layers: fp32 carries it, fp16 does not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(torch.tanh(x) * 3e4 * 4.0 * 1e-3 * 1e-2)


class Clipped(torch.nn.Module):
    """A limit on the length that is not declared, such as a position table's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, :40].repeat_interleave(2, dim=2)


class Whole(torch.nn.Module):
    """`Clipped` without the limit."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, dim=2)


def stage_of(module: torch.nn.Module, factor: int = 1, **changes: Any) -> Stage:
    frames = FRAMES if factor == 1 else Scaled(factor, FRAMES)
    return Stage(
        "smooth",
        (Tensor("x", "float32", (BATCH, 3, FRAMES), (0.0, 1.0)),),
        (Tensor("y", "float32", (BATCH, 3, frames)),),
        lambda: module.eval(),
        **changes,
    )


def rows_in_fp16(stage: Stage, folder: Path) -> list[Any]:
    export_stage(stage, stage_path(folder, stage.name))
    convert_stage(stage, stage_path(folder, stage.name), stage_path(folder, stage.name, "fp16"))
    artifact = Artifact(stage_key(stage.name, "fp16"), stage.name, "onnx", "fp16")
    engine = engine_call("onnx", "fp16", [stage], folder)
    return compare_artifact(artifact, stage, toy_family(stage), torch_call([stage]), engine, folder, seed=1)


def test_an_overflow_in_fp16_is_named(tmp_path: Path) -> None:
    found = rows_in_fp16(stage_of(Loud()), tmp_path)
    assert not any(row.passed for row in found)
    assert all("first at node /Mul_1 (Mul), which is not finite" in row.problem for row in found), table(found)


def test_the_same_stage_passes_when_the_node_stays_in_fp32(tmp_path: Path) -> None:
    found = rows_in_fp16(stage_of(Loud(), keep_fp32=("/Mul_[12]",)), tmp_path)
    assert all(row.passed for row in found), table(found)


def test_a_clipped_length_is_named(tmp_path: Path) -> None:
    stage = stage_of(Whole(), factor=2)
    export_stage(stage_of(Clipped(), factor=2), stage_path(tmp_path, "smooth"), Clipped())
    found = list(compare_stage(stage, torch_call([stage]), onnx_call(tmp_path, [stage]), "onnx fp32", seed=1))
    assert [row.passed for row in found] == [True, True, False]
    assert found[2].problem == "y has shape [1, 3, 80], the module [1, 3, 120], declared is [1, 3, 120]"


def test_sound_is_compared_where_a_stage_makes_it(tmp_path: Path) -> None:
    samples = Axis("samples", 24000, 24000, 30000)
    stage = Stage(
        "smooth",
        (Tensor("x", "float32", (BATCH, samples), (0.0, 0.1)),),
        (Tensor("waveform", "float32", (BATCH, samples)),),
        lambda: torch.nn.Identity(),
    )
    family = dataclasses.replace(
        toy_family(stage), response=(Tensor("waveform", "float32", (1, samples)),), settings={"sample_rate": 24000}
    )

    def noisy(_name: str, x: np.ndarray) -> dict[str, np.ndarray]:
        return {"waveform": (x * 1.01).astype(np.float32)}

    artifact = Artifact(stage_key("smooth"), "smooth", "onnx", "fp32")
    found = compare_artifact(artifact, stage, family, torch_call([stage]), noisy, tmp_path, seed=1)
    assert not found[0].passed  # 1 % is far above fp32 rounding
    assert found[0].sound["snr_db"] == pytest.approx(40, abs=0.1)
    assert found[0].sound["log_mel"] == pytest.approx(np.log(1.01), rel=0.05)


def test_distances_of_sound() -> None:
    rng = np.random.default_rng(0)
    wave = rng.standard_normal(24000).astype(np.float32) * 0.1
    assert log_mel_difference(wave, wave, 24000) == 0 and signal_to_noise(wave, wave) == np.inf
    assert log_mel_difference(wave, wave[:-1], 24000) == np.inf and signal_to_noise(wave, wave[:-1]) == -np.inf
    assert log_mel_difference(wave, wave * np.float32(np.nan), 24000) == np.inf
    assert log_mel_difference(wave, wave * 2, 24000) == pytest.approx(np.log(2), rel=0.01)
    assert signal_to_noise(wave, wave * np.float32(0.9)) == pytest.approx(20, abs=0.01)


class Choir:
    """A session whose logits count the calls."""

    def __init__(self) -> None:
        self.count = 0.0

    def prefill(self, ids: list[int]) -> np.ndarray:
        self.count += len(ids)
        return np.array([self.count])

    def step(self, token: int) -> np.ndarray:
        self.count += token
        return np.array([self.count])

    def close(self) -> None:
        self.count = -1.0


def test_a_recorded_language_model_says_the_same_again() -> None:
    def decode(llm: Any) -> list[float]:
        heard = []
        for start in (1, 2):
            session = llm.session()
            heard += [float(session.prefill(range(start))[0]), float(session.step(5)[0]), float(session.step(7)[0])]
            session.close()
        return heard

    recorder = end_to_end.Recorder(lambda _: Choir())
    first = decode(LogitsLm(recorder))
    assert first == [1, 6, 13, 2, 7, 14]
    assert decode(recorder.replay()) == first and decode(recorder.replay()) == first


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda wave: wave, ""),
        (lambda wave: wave[:-480], "23520 samples, the modules give 24000"),
        (lambda wave: wave * np.float32(1.2), "the sound differs"),
        (lambda wave: wave * np.float32(np.inf), "the sound is not finite"),
    ],
)
def test_whole_utterances_are_gated(change: Any, problem: str) -> None:
    wave = np.random.default_rng(0).standard_normal(24000).astype(np.float32) * 0.1
    family = SimpleNamespace(settings={"sample_rate": 24000})
    found = end_to_end.row("onnx fp16", wave, change(wave), 1.0, family, "fp16", 0)
    assert found.problem == problem and found.passed == (problem == "")


def test_toy_stage_is_no_sound() -> None:
    stage = toy_stage()
    rows = list(compare_stage(stage, torch_call([stage]), torch_call([stage]), "torch", 0, quick=True))
    assert all(row.passed and not row.sound for row in rows)
