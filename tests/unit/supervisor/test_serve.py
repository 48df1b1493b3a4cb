"""The serve command before any server starts: options, exports, and which model repository is used."""

from __future__ import annotations

import errno
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tritone import serve
from tritone.build import manifest
from tritone.build.identity import Identity
from tritone.build.layout import plan_key
from tritone.catalog import open_family
from tritone.errors import ArtifactError, ConfigError, EnvironmentProblem
from tritone.server.repository import differences, render, write
from tritone.supervisor import locate
from tritone.supervisor.launch import Server
from tritone.supervisor.locate import Ports


def test_ports_default_to_tritons_own() -> None:
    args = serve.parse(["voice"])
    assert Ports(args.http_port, args.grpc_port, args.metrics_port) == Ports(8000, 8001, 8002)
    assert args.host == "127.0.0.1"


def test_run_takes_the_rest_of_the_line() -> None:
    assert serve.parse(["voice", "--run", "sh", "--check"]).run == ["sh", "--check"]
    assert serve.parse(["voice", "--run", "sh", "-o", "x", "--", "-5 words"]).run == ["sh", "-o", "x", "--", "-5 words"]


def test_current_exports_are_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(serve.manifest, "verify", lambda *_: None)
    monkeypatch.setattr(serve.subprocess, "run", lambda *_, **__: pytest.fail("exported again"))
    serve.export_if_needed(SimpleNamespace(), tmp_path, tmp_path)  # type: ignore[arg-type]


def test_stale_exports_are_built_and_checked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built: list[list[str]] = []

    def verify(*_: Any) -> None:
        if not built:
            raise ArtifactError("vocoder.onnx does not exist")

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        built.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(serve.manifest, "verify", verify)
    monkeypatch.setattr(serve.subprocess, "run", run)
    serve.export_if_needed(SimpleNamespace(), tmp_path / "voice", tmp_path / "build")  # type: ignore[arg-type]
    assert built[0][1:4] == ["-m", "tritone", "build"]
    options = [str(tmp_path / "voice"), "--out", str(tmp_path / "build"), "--target", "cpu"]
    assert built[0][4:9] == options


@pytest.mark.parametrize(("engine", "formats"), [("torchscript", "torchscript,llm"), ("torch", "llm")])
def test_another_engine_gets_its_files_and_its_repository(
    tiny_v2: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str, formats: str
) -> None:
    family = open_family(tiny_v2)
    built: list[list[str]] = []

    def verify(*arguments: Any) -> None:
        if not built:
            raise ArtifactError(manifest.rebuild_command(tiny_v2, tmp_path, arguments[3]))

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        built.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(serve.manifest, "verify", verify)
    monkeypatch.setattr(serve.subprocess, "run", run)
    serve.export_if_needed(family, tiny_v2, tmp_path, "cpu", engine)
    assert built[0][-2:] == ["--formats", formats]
    folder = serve.repository(family, "cpu", tmp_path, {"stages": engine})
    assert folder == tmp_path / "model_repository" / f"cpu_{engine}"
    configs = [path.read_text() for path in folder.glob("*/config.pbtxt")]
    said = [f'key: "stages"\n  value {{\n    string_value: "{engine}"' in text for text in configs]
    assert sum(said) == len((*family.hosts, *family.services)) + 1  # not the ensemble


def test_engine_on_the_gpu_target_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"torch was asked for on the gpu target, .* cpu, which runs onnxruntime, torchscr"
    ):
        serve.wanted("gpu", "torch")


def test_plans_of_narrower_sizes_are_kept_and_a_server_is_told_what_to_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    platform, build = "tensorrt 11.2.1.2 sm89", tmp_path / "voice"
    monkeypatch.setattr(serve.gpu, "target_platform", lambda *_: platform)
    monkeypatch.setattr(serve.manifest, "verify", lambda *_: None)

    def recorded(made_for: str) -> None:
        made = manifest.Entry(Identity("", "", "fp16", {}, made_for), "", 0, 0.0, None, {})
        manifest.write_manifest(build, {"tensorrt/dp.fp16.plan": made})

    recorded(f"{platform} mel_frames=4/200/600")
    message = (
        r"built with --profile mel_frames=4/200/600; .* For a server run: tritone build voice --out \S+/voice-served "
        r"--formats onnx,tensorrt,llm --precision fp16 --target gpu; then serve with --build-dir \S+/voice-served"
    )
    with pytest.raises(ArtifactError, match=message):
        serve.export_if_needed(SimpleNamespace(), Path("voice"), build, "gpu")  # type: ignore[arg-type]
    serve.export_if_needed(SimpleNamespace(), Path("voice"), build)  # type: ignore[arg-type]
    recorded(platform)
    serve.export_if_needed(SimpleNamespace(), Path("voice"), build, "gpu")  # type: ignore[arg-type]


def test_failing_export_is_an_error_with_its_status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def verify(*_: Any) -> None:
        raise ArtifactError("vocoder.onnx does not exist")

    monkeypatch.setattr(serve.manifest, "verify", verify)
    monkeypatch.setattr(serve.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 3))
    with pytest.raises(ArtifactError, match="the export stopped with status 3"):
        serve.export_if_needed(SimpleNamespace(), tmp_path, tmp_path)  # type: ignore[arg-type]


def test_checkpoint_with_other_speakers_gets_a_repository_of_its_own(tiny_v2: Path, tmp_path: Path) -> None:
    family = open_family(tiny_v2)
    folder = serve.repository(family, "cpu", tmp_path)
    assert folder == tmp_path / "model_repository" / "cpu"
    assert differences(render(family, "cpu"), folder) == []


def test_committed_repository_is_used_when_it_fits(
    tiny_v2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = open_family(tiny_v2)
    files = render(family, "cpu")
    monkeypatch.setattr(serve, "REPOSITORY", tmp_path / "committed")
    write(files, tmp_path / "committed" / "cpu")
    assert serve.repository(family, "cpu", tmp_path / "build") == tmp_path / "committed" / "cpu"
    assert not (tmp_path / "build").exists()


def test_gpu_target_without_a_complete_server_says_where_to_run_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRITONSERVER_DIR", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match=r"tensorrt backend, which nvidia-pytriton .* --profile gpu up"):
        serve.start(serve.parse(["voice", "--target", "gpu"]))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tritonserver").touch()
    with pytest.raises(EnvironmentProblem, match=r"backends/tensorrt does not exist\."):
        locate.complete_server("tensorrt")
    (tmp_path / "backends" / "tensorrt").mkdir(parents=True)
    assert locate.complete_server("tensorrt") == tmp_path


def test_complete_server_is_run_as_it_is_installed(tmp_path: Path) -> None:
    server = Server(tmp_path, tmp_path, {}, home=tmp_path / "opt", options=serve.GPU_OPTIONS)
    command = server.command()
    assert command[command.index("--") + 1] == str(tmp_path / "opt" / "bin" / "tritonserver")
    assert f"--backend-directory={tmp_path / 'opt' / 'backends'}" in command
    assert [option for option in command if "metrics=" in option] == ["--allow-gpu-metrics=true"]
    assert "--rate-limit=execution_count" in command
    assert "pytriton" not in server.environment().get("LD_LIBRARY_PATH", "")


def test_engines_of_tensorrt_rtx_are_refused_for_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.gpu, "target_platform", lambda: "tensorrt_rtx 1.7.1.116 portable")
    with pytest.raises(ArtifactError, match=r"Triton loads plans of tensorrt, but this machine has tensorrt_rtx 1\.7"):
        serve.wanted("gpu")
    monkeypatch.setattr(serve.gpu, "target_platform", lambda: "tensorrt 11.2.1.2 sm89")
    assert serve.wanted("gpu").platform == "tensorrt 11.2.1.2 sm89"
    assert serve.wanted("cpu").platform == ""


def test_gpu_repository_lies_in_the_build_folder_with_its_engines(tiny_v2: Path, tmp_path: Path) -> None:
    family = open_family(tiny_v2)
    for stage in family.stages:
        plan = tmp_path / plan_key(stage.name)
        plan.parent.mkdir(exist_ok=True)
        plan.write_text(stage.name)
    for _ in range(2):
        folder = serve.repository(family, "gpu", tmp_path)
        assert folder == tmp_path / "model_repository" / "gpu"
        linked = {path.parts[-3]: path.read_text() for path in folder.glob("*/1/model.plan")}
        assert linked == {f"{family.name}_stage_{stage.name}": stage.name for stage in family.stages}
    (tmp_path / plan_key("vocoder")).unlink()
    with pytest.raises(ArtifactError, match=r"vocoder\.fp16\.plan does not exist; build the plans on the GPU"):
        serve.repository(family, "gpu", tmp_path)


def test_a_repository_that_cannot_be_written_lies_in_the_folder_of_the_run(
    tiny_v2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model_repository").touch()  # as root, a test cannot take the permission away
    family = open_family(tiny_v2)
    folder = serve.repository(family, "cpu", tmp_path)
    try:
        assert tmp_path not in folder.parents and differences(render(family, "cpu"), folder) == []
    finally:
        shutil.rmtree(folder.parent)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "error: there is no room left on the disk of build/voice;"),
        (OSError(errno.EACCES, "Permission denied", "/x"), "error: this user has no permission to change /x;"),
    ],
)
def test_errors_of_the_disk_are_sentences(
    error: OSError, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(*_: Any) -> None:
        raise error

    monkeypatch.setattr(serve, "start", start)
    assert serve.main(["voice"]) == 1
    assert capsys.readouterr().err.startswith(sentence)
