"""The two commands: what is built, what is left alone, and what fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from export_helpers import toy_family, toy_llm, toy_stage, worse

from export import build_engines, parity
from export.to_onnx import export_stage
from tritone import artifacts
from tritone.artifacts import stage_path


@pytest.fixture
def toy_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Command-line options of a toy model that both commands open."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "net.pt").write_bytes(b"weights")
    for module in (build_engines, parity):
        monkeypatch.setattr(module, "open_family", lambda _: toy_family(llm=toy_llm()))
    return ["--model-dir", str(tmp_path / "model"), "--out", str(tmp_path / "build")]


def test_building_once_is_enough(toy_checkpoint: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build_engines.main([*toy_checkpoint, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("does not exist") == 2
    assert build_engines.main(toy_checkpoint) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["what", "smooth", "llm"]
    assert "exporting" in err
    artifacts.verify(tmp_path / "build", toy_family(llm=toy_llm()), tmp_path / "model")
    assert build_engines.main(toy_checkpoint) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'build'} is up to date\n"
    assert parity.main([*toy_checkpoint, "--seed", "5", "--json", str(tmp_path / "parity.json")]) == 0
    listed = json.loads((tmp_path / "parity.json").read_text())
    assert [row["name"] for row in listed] == ["smooth"] * 3 + ["llm"] and all(row["passed"] for row in listed)


def test_a_wrong_export_fails_the_build_by_name(
    toy_checkpoint: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from export import to_onnx

    right = to_onnx.export_stage
    monkeypatch.setattr(to_onnx, "export_stage", lambda stage, path, _module: right(stage, path, worse()))
    assert build_engines.main([*toy_checkpoint, "--formats", "onnx"]) == 1
    out, err = capsys.readouterr()
    assert "FAILED" in out and "y differs" in out
    assert "error: the export of smooth differs from the checkpoint" in err
    assert not stage_path(tmp_path / "build", "smooth").exists()


def test_a_wrong_file_fails_the_parity_command_by_name(
    toy_checkpoint: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_stage(toy_stage(), stage_path(tmp_path / "build", "smooth"), worse())
    assert parity.main([*toy_checkpoint, "--json", str(tmp_path / "p.json")]) == 1
    out, err = capsys.readouterr()
    assert "error: parity failed for smooth" in err and "FAILED y differs" in out


def test_what_was_finished_before_an_interrupt_is_kept(
    toy_checkpoint: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from export import to_genai

    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(to_genai, "export_llm", interrupt)
    assert build_engines.main(toy_checkpoint) == 130
    assert "stopped; what was finished is kept" in capsys.readouterr().err
    assert list(artifacts.read_manifest(tmp_path / "build")) == ["onnx/smooth.onnx"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--formats", "onnx,plan"], "error: unknown format plan; there are onnx, llm"),
        (["--stage", "vocoder"], "error: toy has no stage 'vocoder'; there are smooth, llm"),
    ],
)
def test_choices_that_do_not_exist(
    toy_checkpoint: list[str], options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build_engines.main([*toy_checkpoint, *options]) == 1
    assert message in capsys.readouterr().err
    if options[0] == "--stage":
        assert parity.main([*toy_checkpoint, *options]) == 1
        assert message in capsys.readouterr().err
