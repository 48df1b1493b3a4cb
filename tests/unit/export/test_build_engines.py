"""The build and parity commands: what they build, leave alone and refuse."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from support.export_helpers import toy_family, toy_llm, toy_stage, worse

from tritone.build import manifest
from tritone.build.layout import stage_path
from tritone.export import build_engines
from tritone.export.to_onnx import export_stage
from tritone.parity import check_build as parity


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
    manifest.verify(tmp_path / "build", toy_family(llm=toy_llm()), tmp_path / "model")
    assert build_engines.main(toy_checkpoint) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'build'} is up to date\n"
    assert parity.main([*toy_checkpoint, "--seed", "5", "--json", str(tmp_path / "parity.json")]) == 0
    listed = json.loads((tmp_path / "parity.json").read_text())["rows"]
    assert [row["name"] for row in listed] == ["smooth"] * 3 + ["llm"] * 3 and all(row["passed"] for row in listed)


def test_a_wrong_export_fails_the_build_by_name(
    toy_checkpoint: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tritone.export import to_onnx

    right = to_onnx.export_stage
    monkeypatch.setattr(to_onnx, "export_stage", lambda stage, path, _module: right(stage, path, worse()))
    assert build_engines.main([*toy_checkpoint, "--formats", "onnx"]) == 1
    out, err = capsys.readouterr()
    assert "FAILED" in out and "y differs" in out
    assert "error: onnx/smooth.onnx failed and was removed; see the table" in err
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
    from tritone.export import to_genai

    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(to_genai, "export_llm", interrupt)
    assert build_engines.main(toy_checkpoint) == 130
    assert "stopped; finished artifacts are kept" in capsys.readouterr().err
    assert list(manifest.read_manifest(tmp_path / "build")) == ["onnx/smooth.onnx"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--formats", "onnx,plan"], "error: unknown format plan; there are torchscript, onnx, tensorrt, llm"),
        (["--precision", "fp8"], "error: unknown precision fp8; there are fp32, fp16"),
        (["--stage", "vocoder"], "error: there is no stage 'vocoder' to build; there are smooth, llm"),
    ],
)
def test_choices_that_do_not_exist(
    toy_checkpoint: list[str], options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build_engines.main([*toy_checkpoint, *options]) == 1
    assert message in capsys.readouterr().err
    if options[0] != "--formats":
        assert parity.main([*toy_checkpoint, *options]) == 1
        assert message in capsys.readouterr().err


def test_every_format_in_one_command(
    toy_checkpoint: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = [*toy_checkpoint, "--formats", "torchscript,onnx", "--precision", "fp32,fp16"]
    assert build_engines.main(everything) == 0
    out = capsys.readouterr().out
    assert [tuple(line.split()[1:3]) for line in out.splitlines()[1:]] == [
        ("onnx", "fp32"), ("onnx", "fp16"), ("torchscript", "fp32"), ("torchscript", "fp16"),
    ]  # fmt: skip
    assert build_engines.main(everything) == 0 and "up to date" in capsys.readouterr().out
    assert parity.main([*toy_checkpoint, "--html", str(tmp_path / "p.html")]) == 0
    page = (tmp_path / "p.html").read_text()
    assert "all 12 comparisons passed" in page and "data:image/png;base64," in page
    capsys.readouterr()
    assert parity.main([*toy_checkpoint, "--precision", "fp16", "--formats", "torchscript"]) == 0
    said = capsys.readouterr()
    assert said.out.count("torchscript fp16") == 3
    assert re.findall(r"^\[1/1\] torchscript/smooth", said.err, re.MULTILINE)


def test_what_is_made_from_a_stale_file_is_made_again(
    toy_checkpoint: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fp16 = [*toy_checkpoint, "--formats", "onnx", "--precision", "fp16"]
    assert build_engines.main(fp16) == 0
    stage_path(tmp_path / "build", "smooth").unlink()
    capsys.readouterr()
    assert build_engines.main([*fp16, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "smooth.onnx does not exist" in out
    assert "smooth.fp16.onnx is made from onnx/smooth.onnx, which is rebuilt" in out


def test_a_missing_compiler_is_named_and_the_rest_is_built(
    toy_checkpoint: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    assert build_engines.main([*toy_checkpoint, "--formats", "onnx,tensorrt"]) == 1
    err = capsys.readouterr().err
    assert "error: no TensorRT plans were built: " in err and "tensorrt_rtx" in err
    assert f"The other formats are in {tmp_path / 'build'}." in err
    assert stage_path(tmp_path / "build", "smooth").is_file()


def test_a_folder_that_cannot_be_written_is_said(
    toy_checkpoint: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "build").write_text("a file in the way")
    assert build_engines.main(toy_checkpoint) == 1
    assert f"error: cannot write to {tmp_path / 'build'} (" in capsys.readouterr().err


def test_parity_of_nothing_is_an_error(toy_checkpoint: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main(toy_checkpoint) == 1
    assert "holds no such artifact; run: tritone build" in capsys.readouterr().err
    assert parity.main([*toy_checkpoint, "--formats", "onnx,torchscript", "--precision", "fp16"]) == 1
    assert capsys.readouterr().err.endswith("/build --formats onnx,torchscript --precision fp16\n")
