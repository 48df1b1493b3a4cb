"""The manifest: what makes an artifact stale, the messages about it, and what keeps a build folder consistent."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.export_helpers import toy_family, toy_llm, toy_stage

from tritone.build import files, hashes, identity, manifest
from tritone.build.hashes import Hashes
from tritone.build.identity import Identity, identities
from tritone.build.layout import llm_key, stage_key
from tritone.build.manifest import Entry, problem, record, verify
from tritone.build.sources import source_files
from tritone.build.targets import HUGGINGFACE, Selection
from tritone.catalog import KINDS, open_family
from tritone.errors import ArtifactError, CheckpointError
from tritone.stage import Axis, Family, Tensor

KEY = stage_key("smooth")
COMMAND = "Run: tritone build {model} --out {build}$"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "net.pt").write_bytes(b"weights")
    (folder / "README.md").write_text("about")
    return folder


@pytest.fixture
def build(tmp_path: Path, model: Path) -> Path:
    """A build folder with one current artifact."""
    folder = tmp_path / "build"
    path = folder / KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(b"graph")
    hashes = Hashes(folder / manifest.HASHES)
    identity = identities(toy_family(), model, hashes)[KEY]
    record(folder, KEY, Entry(identity, hashes.tree(path), 5, 0.1, 1e-7, {"torch": "1"}))
    return folder


def reason(build: Path, model: Path, family: Family | None = None) -> str | None:
    hashes = Hashes(build / manifest.HASHES)
    return problem(build, KEY, identities(family or toy_family(), model, hashes)[KEY], hashes)


def test_what_was_just_built_is_current(build: Path, model: Path) -> None:
    assert reason(build, model) is None
    verify(build, toy_family(), model)
    (model / "README.md").write_text("documents do not count")
    (model / "spk2info.pt").write_bytes(b"a voice more")
    assert reason(build, model) is None


def test_a_changed_checkpoint_makes_it_stale(build: Path, model: Path) -> None:
    before = identity.checkpoint_hash(toy_family(), model, Hashes(build / "x"))
    (model / "net.pt").write_bytes(b"trained longer")
    message = rf"{KEY} was built from another checkpoint \(built with {before[:12]}, now .{{12}}\). "
    with pytest.raises(ArtifactError, match=message + COMMAND.format(model=model, build=build)):
        verify(build, toy_family(), model)


def test_a_changed_declaration_makes_it_stale(build: Path, model: Path) -> None:
    longer = Tensor("x", "float32", (Axis("batch", 1, 1, 4), 3, Axis("frames", 1, 20, 61)))
    stage = toy_stage(inputs=(longer, *toy_stage().inputs[1:]))
    assert str(reason(build, model, toy_family(stage))).startswith("was built from another description of its stage")


def test_other_nodes_in_fp32_make_only_fp16_stale(model: Path, tmp_path: Path) -> None:
    both = Selection(("onnx",), ("fp32", "fp16"))
    hashes = Hashes(tmp_path / "hashes.json")
    found = [identities(toy_family(toy_stage(keep_fp32=keep)), model, hashes, both) for keep in ((), ("*/Exp",))]
    assert found[0][KEY] == found[1][KEY]
    assert found[0]["onnx/smooth.fp16.onnx"] != found[1]["onnx/smooth.fp16.onnx"]


def test_an_engine_for_another_gpu_is_stale(build: Path, model: Path) -> None:
    hashes = Hashes(build / manifest.HASHES)
    chosen = Selection(("tensorrt",), ("fp16",), platform="sm90")
    key = "tensorrt/smooth.fp16.plan"
    wanted = identities(toy_family(), model, hashes, chosen)[key]
    (build / key).parent.mkdir()
    (build / key).write_bytes(b"engine")
    record(build, key, Entry(dataclasses.replace(wanted, platform="sm89"), hashes.tree(build / key), 6, 1.0, None, {}))
    assert problem(build, key, wanted, hashes) == "was built for sm89; sm90 is needed"


def test_changed_source_makes_it_stale(
    build: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "voice_kit"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "layers.py").write_text("SIZE = 3\n")
    (package / "unused.py").write_text("")
    (package / "stages.py").write_text("def build():\n    from voice_kit import layers\n    return layers.SIZE\n")
    from voice_kit.stages import build as builder

    assert [path.name for path in source_files(builder)] == ["__init__.py", "layers.py", "stages.py"]
    first = identity.description_hash(toy_stage(build=builder))
    (package / "unused.py").write_text("changed = 1")
    assert identity.description_hash(toy_stage(build=builder)) == first
    (package / "layers.py").write_text("SIZE = 4\n")
    assert identity.description_hash(toy_stage(build=builder)) != first


def test_a_damaged_file_is_noticed(build: Path, model: Path) -> None:
    (build / KEY).write_bytes(b"graph, cut")
    with pytest.raises(ArtifactError, match=f"{KEY} was changed after it was built"):
        verify(build, toy_family(), model)


def test_a_missing_file_is_noticed(build: Path, model: Path, tmp_path: Path) -> None:
    (build / KEY).unlink()
    with pytest.raises(ArtifactError, match=f"{KEY} does not exist. Run: "):
        verify(build, toy_family(), model)
    with pytest.raises(ArtifactError, match=f"{KEY} does not exist. Run: "):
        verify(tmp_path / "nowhere", toy_family(), model)


def test_a_discarded_artifact_is_gone(build: Path, model: Path) -> None:
    manifest.discard(build, KEY)
    assert not (build / KEY).exists() and manifest.read_manifest(build) == {}


def test_the_language_model_is_bound_to_its_runtime(build: Path, model: Path) -> None:
    hashes = Hashes(build / manifest.HASHES)
    key = llm_key("int8")
    identity = identities(toy_family(llm=toy_llm()), model, hashes)[key]
    (build / key).mkdir(parents=True)
    (build / key / "model.onnx").write_bytes(b"lm")
    older = dataclasses.replace(identity, requires={"onnxruntime-genai": "0.1.0"})
    record(build, key, Entry(older, hashes.tree(build / key), 2, 0.1, None, {}))
    found = problem(build, key, identity, hashes)
    assert re.fullmatch(r"was built with onnxruntime-genai 0\.1\.0, installed is \d+\.\d+\.\d+", str(found))
    record(build, key, Entry(identity, hashes.tree(build / key), 2, 0.1, None, {}))
    assert problem(build, key, identity, hashes) is None
    other = dataclasses.replace(identity, precision="fp32")
    assert str(problem(build, key, other, hashes)).startswith("was built from another precision")


def test_hashes_are_remembered_by_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"one")
    hashes = Hashes(tmp_path / "cache.json")
    first = hashes.file(path)
    hashes.save()
    stamp = path.stat().st_mtime_ns
    path.write_bytes(b"two")
    os.utime(path, ns=(stamp, stamp))
    assert Hashes(tmp_path / "cache.json").file(path) == first  # not read again
    os.utime(path, ns=(stamp, stamp + 1))
    assert Hashes(tmp_path / "cache.json").file(path) != first


def test_a_folder_that_cannot_be_written_can_be_served(
    build: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path, _value: object) -> None:
        raise PermissionError("read-only file system")

    monkeypatch.setattr(hashes, "write_json", refuse)
    verify(build, toy_family(), model)


@pytest.mark.parametrize(
    ("selection", "options"),
    [
        (Selection(), ""),
        (Selection(llm="fp32"), " --lm-precision fp32"),
        (Selection(("onnx",), ("fp16",)), " --formats onnx --precision fp16"),
        (
            Selection(("onnx", "tensorrt", "llm"), ("fp16",), HUGGINGFACE),
            " --formats onnx,tensorrt,llm --precision fp16 --target gpu",
        ),
    ],
)
def test_the_command_says_what_was_selected_and_quotes_paths(selection: Selection, options: str) -> None:
    command = manifest.rebuild_command(Path("my voice"), Path("build/v"), selection)
    assert command == f"tritone build 'my voice' --out build/v{options}"


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", r"manifest.json is not valid JSON \(.*; delete it"), ('{"artifacts": {"a": {"identity": {}}}}', "delete")],
)
def test_a_damaged_manifest_is_reported(build: Path, content: str, message: str) -> None:
    (build / manifest.MANIFEST).write_text(content)
    with pytest.raises(ArtifactError, match=message):
        manifest.read_manifest(build)


def hold(folder: Path, name: str, seconds: float) -> None:
    with files.locked(folder):
        time.sleep(seconds)
        record(folder, name, Entry(Identity("c", "d"), "s", 1, 0.0, None, {}))


def test_two_builds_at_once_do_not_lose_entries(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=hold, args=(tmp_path, f"n{i}", 0.05)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert sorted(manifest.read_manifest(tmp_path)) == ["n0", "n1", "n2", "n3"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(f".{manifest.MANIFEST}")]


def test_a_second_build_announces_that_it_waits(tmp_path: Path) -> None:
    worker = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path, "n", 0.5))
    worker.start()
    while not (tmp_path / ".lock").exists():
        time.sleep(0.01)
    time.sleep(0.05)
    messages: list[str] = []
    with files.locked(tmp_path, lambda: messages.append("waiting")):
        assert messages == ["waiting"] and list(manifest.read_manifest(tmp_path)) == ["n"]
    worker.join(20)


def test_the_manifest_is_plain_json(build: Path) -> None:
    content = json.loads((build / manifest.MANIFEST).read_text())["artifacts"][KEY]
    assert content["error"] == 1e-7 and content["tools"] == {"torch": "1"}
    assert content["identity"]["precision"] == "fp32"


def test_a_directory_that_is_not_a_checkpoint_is_explained(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="absent is not a directory; give the folder"):
        open_family(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("")
    known = re.escape(", ".join(kind.name for kind in KINDS))
    with pytest.raises(
        CheckpointError, match=f"no known checkpoint; a checkpoint is recognised by one of {known}; found notes"
    ):
        open_family(tmp_path)


def test_two_checkpoints_in_one_directory_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cosyvoice2.yaml").write_text("")
    (tmp_path / "config.json").write_text('{"model": {}, "data": {}}')
    with pytest.raises(CheckpointError, match=r"holds more than one checkpoint \(cosyvoice2.yaml, config.json with"):
        open_family(tmp_path)


@pytest.mark.parametrize("content", ["{}", "[]", "no JSON", '{"model": {}}'])
def test_any_other_config_json_is_no_checkpoint_of_ours(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match="holds no known checkpoint"):
        open_family(tmp_path)


@pytest.mark.parametrize("flipped", ["artifact", "checkpoint"])
def test_bytes_flipped_with_size_and_time_kept_are_found_on_request(build: Path, model: Path, flipped: str) -> None:
    verify(build, toy_family(), model)  # remembers the digests
    path = build / KEY if flipped == "artifact" else model / "net.pt"
    before, content = path.stat(), bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(bytes(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    verify(build, toy_family(), model)
    wanted = "was changed after it was built" if flipped == "artifact" else "was built from another checkpoint"
    with pytest.raises(ArtifactError, match=wanted):
        verify(build, toy_family(), model, afresh=True)


def test_the_option_to_read_every_byte_reaches_the_digests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tritone import serve
    from tritone.export import build_engines

    assert build_engines.parse(["c", "--verify"]).verify and not build_engines.parse(["c"]).verify
    assert serve.parse(["c", "--verify", "--check"]).verify and not serve.parse(["c"]).verify
    seen: list[Any] = []

    def stale(*arguments: Any) -> None:
        seen.append(arguments[4])
        if len(seen) == 1:
            raise ArtifactError("a.onnx was changed")

    monkeypatch.setattr(manifest, "verify", lambda *given: stale(*given, False))
    monkeypatch.setattr(serve, "wanted", lambda *_: Selection())

    def finished(command: list[str], **_: Any) -> SimpleNamespace:
        seen.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(serve.subprocess, "run", finished)
    serve.export_if_needed(toy_family(), tmp_path, tmp_path, afresh=True)
    assert seen[0] is True and "--verify" in seen[1]
