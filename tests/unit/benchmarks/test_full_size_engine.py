"""The benchmark of full-size engines, on the smallest of the networks."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.cosyvoice import full_size_engine
from tritone.errors import ArtifactError


@pytest.mark.timeout(180)
def test_steps_are_measured_and_limits_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "found.json"
    arguments = ["--stage", "f0_predictor", "--precision", "fp32", "--json", str(results)]
    assert full_size_engine.main(arguments) == 0
    found = json.loads(results.read_text())
    assert [step["step"] for step in found["steps"]] == ["onnx fp32", "engine fp32"]
    engine = found["steps"][1]
    assert engine["platform"].endswith(" sm89") and engine["megabytes"] > 10
    assert 0.1 < engine["peak_gib"] < 4 and engine["cpu_seconds"] > 0
    assert "engine fp32" in capsys.readouterr().out
    monkeypatch.setitem(full_size_engine.LIMITS, "peak_gib", 0.01)
    assert full_size_engine.too_much(found["steps"]) == [
        f"engine fp32 took {engine['peak_gib']} peak_gib; the limit is 0.01"
    ]


def test_unknown_stages_and_precisions_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert full_size_engine.main(["--stage", "flow"]) == 1
    assert "unknown stage flow; there are flow_encoder, " in capsys.readouterr().err
    assert full_size_engine.main(["--precision", "fp8"]) == 1
    assert "unknown precision fp8; there are fp32, fp16" in capsys.readouterr().err


def test_a_step_that_fails_is_said(tmp_path: Path) -> None:
    args = argparse.Namespace(stage="f0_predictor", compute_capability="8.9")
    message = r"engine fp32 of f0_predictor failed: .*f0_predictor.onnx does not exist"
    with pytest.raises(ArtifactError, match=message):
        full_size_engine.in_a_process("engine fp32", args, tmp_path)
