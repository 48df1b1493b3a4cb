"""Disks that are full, read-only or of another user: a sentence each, nothing lost, nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.export_helpers import toy_family, toy_llm

from tritone.build import disk, manifest
from tritone.build.disk import disk_problems, in_words, remove_leftovers, scratch_folder
from tritone.build.files import read_json, write_atomic, write_json
from tritone.build.hashes import Hashes
from tritone.errors import ArtifactError, EnvironmentProblem
from tritone.export import build_engines


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, "there is no room left on the disk of /b/x; make some and run the same command again"),
        (errno.EDQUOT, "there is no room left on the disk of /b/x"),
        (errno.EROFS, "/b/x is on a disk that is mounted read-only; mount it for writing, or choose another folder"),
        (errno.EACCES, "this user has no permission to change /b/x; give it with chmod or chown"),
        (errno.EISDIR, "/b/x is a folder where a file belongs; move it away"),
        (errno.ENOTDIR, "/b/x is a file where a folder belongs; move it away"),
        (errno.EIO, "/b/x: Input/output error"),
    ],
)
def test_each_error_of_a_disk_is_a_sentence_about_the_place(code: int, sentence: str) -> None:
    assert in_words(OSError(code, os.strerror(code), "/b/x"), Path("/b")).startswith(sentence)
    assert in_words(OSError(code, os.strerror(code), "/b/x.12.part"), Path("/b")).startswith(sentence)
    unnamed = in_words(OSError(code, os.strerror(code)), Path("/b/x"))
    assert unnamed.startswith(sentence)
    with pytest.raises(EnvironmentProblem), disk_problems(Path("/b")):
        raise OSError(code, os.strerror(code))


def test_a_full_disk_is_recognised_whatever_error_a_library_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="of its own"), scratch_folder(tmp_path, "x.onnx"):
        raise RuntimeError("of its own")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: disk.shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(EnvironmentProblem, match=r"no room left on the disk of .*x\.onnx"):
        with scratch_folder(tmp_path, "x.onnx") as folder:
            assert folder.name.startswith(".x.onnx.") and folder.name.endswith(".part")
            raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["null", "5", "[1]", '"text"', "{", "[" * 100_000, "\ufeff"])
def test_json_that_is_no_object_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json (is not valid|holds .* instead of a) JSON.*; delete it"):
        read_json(tmp_path / "manifest.json")


@pytest.mark.parametrize("content", ['{"artifacts": 5}', '{"artifacts": [1]}', '{"artifacts": {"x": null}}'])
def test_a_manifest_of_another_form_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json was written by another version .* delete .* and build"):
        manifest.read_manifest(tmp_path)


def test_hashes_of_another_form_are_computed_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    right = Hashes().file(tmp_path / "file")
    for remembered in (5, None, [1], "text", {"a": 1}):
        (tmp_path / "hashes.json").write_text(json.dumps({str((tmp_path / "file").resolve()): remembered}))
        assert Hashes(tmp_path / "hashes.json").file(tmp_path / "file") == right


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(EnvironmentProblem, match=r"manifest\.json is a folder where a file belongs"):
        read_json(tmp_path / "manifest.json")


def test_a_file_that_cannot_be_completed_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    write_atomic(tmp_path / "b", lambda file: file.write(b"old"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tritone.build.files.os.replace", full)
    for write in (
        lambda: write_json(tmp_path / "a.json", {"new": 2}),
        lambda: write_atomic(tmp_path / "b", lambda file: file.write(b"new")),
    ):
        with pytest.raises(OSError, match="No space left"):
            write()
    assert read_json(tmp_path / "a.json") == {"old": 1} and (tmp_path / "b").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b"]


def test_leftovers_of_killed_builds_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = [
        "onnx/vocoder.onnx",
        "onnx/vocoder.fp16.onnx.data",
        "llm/int8/model.onnx",
        ".lock",
        "manifest.json",
        "a.part",
    ]
    left = ["onnx/.vocoder.onnx.k3_x8y2z/weight", "llm/.int8.abc12345.part/x", ".manifest.json.4711", "x.pt.12.part"]
    for name in [*kept, *left]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("content")
    assert len(remove_leftovers(tmp_path)) == len(left)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == sorted(kept) and not list(tmp_path.glob("onnx/.*"))


def test_parts_of_killed_processes_go_with_the_next_write_and_those_of_others_stay(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    other = tmp_path / f"voices.pt.{os.getppid()}.part"
    for path in (tmp_path / f"voices.pt.{ended.stdout.decode().strip()}.part", other):
        path.write_text("half")
    write_atomic(tmp_path / "voices.pt", lambda file: file.write(b"whole"))
    assert sorted(tmp_path.iterdir()) == sorted([other, tmp_path / "voices.pt"])


@pytest.fixture
def toy_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "net.pt").write_bytes(b"weights")
    monkeypatch.setattr(build_engines, "open_family", lambda _: toy_family(llm=toy_llm()))
    return [str(tmp_path / "model"), "--out", str(tmp_path / "build"), "--formats", "onnx", "--quick"]


def test_a_build_on_a_full_disk_is_one_sentence(
    toy_options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tritone.export import onnx_file, to_onnx

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(to_onnx, "save", full)
    assert onnx_file.save is not full
    assert build_engines.main(toy_options) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        f"error: there is no room left on the disk of {tmp_path / 'build' / 'onnx' / 'smooth.onnx'};"
    )
    assert list((tmp_path / "build" / "onnx").iterdir()) == []


@pytest.mark.parametrize("content", ["null", '{"artifacts": 5}'])
def test_a_build_beside_a_damaged_manifest_is_one_sentence(
    toy_options: list[str], tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "manifest.json").write_text(content)
    assert build_engines.main(toy_options) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'build' / 'manifest.json'} ")
