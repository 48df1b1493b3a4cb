"""The benchmark that serves full-size checkpoints, with tiny ones in their place and no server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.golden_weights import BACKBONE, GOLDEN

from benchmarks.cosyvoice import full_size_serving, random_checkpoint
from tritone.catalog import open_family
from tritone.checkpoint.weights import load_strict
from tritone.errors import ArtifactError, CheckpointError
from tritone.families.cosyvoice.checkpoint.folder import YAMLS, CosyVoiceCheckpoint
from tritone.families.cosyvoice.checkpoint.yaml_file import parse_yaml
from tritone.families.cosyvoice.speak.text import TextFrontend
from tritone.lm.sampling import length_limits


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_checkpoint_is_complete_and_speaks_as_long_as_asked(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = GOLDEN / f"cosyvoice_v{version}" / YAMLS[version]
    tiny = parse_yaml(file.read_text(), file, version)
    monkeypatch.setattr(random_checkpoint, "PUBLISHED", {version: tiny})
    monkeypatch.setattr(random_checkpoint, "QWEN2", BACKBONE)
    folder = random_checkpoint.random_checkpoint(tmp_path / "made", version, 4.0)
    family = open_family(folder)
    assert family.settings["speakers"] == ["random"] and family.name == f"cosyvoice{version}"
    assert all((folder / stage.file).is_file() for stage in family.stages if stage.file)
    checkpoint = CosyVoiceCheckpoint(folder)
    for name, build in random_checkpoint.networks(checkpoint.config).items():
        load_strict(build(), checkpoint.state(name), name)
    (text,) = TextFrontend(folder).segments(random_checkpoint.TEXT)
    least, most = length_limits(len(text), checkpoint.config.lm)
    rate = checkpoint.config.flow.token_frame_rate
    assert least == most and most / rate == pytest.approx(4, abs=1 / rate)


def test_the_sizes_are_the_official_ones() -> None:
    """Other tests compare v1's and v3's keys and shapes with the published lists; v2's count is checked here."""
    import torch

    with torch.device("meta"):
        networks = random_checkpoint.networks(random_checkpoint.PUBLISHED[2])
        millions = {
            name: sum(value.numel() for value in build().parameters()) / 1e6 for name, build in networks.items()
        }
    assert millions == pytest.approx({"llm": 505.8, "flow": 112.5, "hift": 20.8}, abs=0.1)


def test_an_unknown_version_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="unknown version 4; the versions are 1, 2, 3"):
        random_checkpoint.random_checkpoint(tmp_path, 4, 1.0)


def test_what_is_no_sound_is_an_error() -> None:
    noise = np.random.default_rng(0).standard_normal(2400).astype(np.float32)
    full_size_serving.check(noise, 24000)
    with pytest.raises(ArtifactError, match="answered without audio"):
        full_size_serving.check(noise[:0], 24000)
    with pytest.raises(ArtifactError, match=r"0\.10 s of audio are silent"):
        full_size_serving.check(0 * noise, 24000)
    noise[[3, 5]] = np.nan, np.inf
    with pytest.raises(ArtifactError, match="2 of 2400 samples are not finite"):
        full_size_serving.check(noise, 24000)


def test_a_server_that_stops_is_told_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "serve.log").write_text("loading\nerror: no memory\n")
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    process.wait()
    with pytest.raises(ArtifactError, match="the server stopped with status 3: error: no memory"):
        full_size_serving.wait(process, SimpleNamespace(http=1), "cosyvoice1", tmp_path)  # type: ignore[arg-type]


def test_a_command_is_timed_and_its_failure_told() -> None:
    found = full_size_serving.timed([sys.executable, "-c", "sum(range(2 * 10**7))"])
    assert min(found["cpu_seconds"], found["seconds"], found["peak_gib"]) > 0
    with pytest.raises(ArtifactError, match="-c failed: it is full"):
        full_size_serving.timed([sys.executable, "-c", "raise SystemExit('it is full')"])


def test_each_version_keeps_its_place_in_the_results(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    for version, seconds in (("v2", 1), ("v1", 2), ("v2", 3)):
        full_size_serving.record(version, {"load_seconds": seconds}, path)
    assert json.loads(path.read_text()) == {"v1": {"load_seconds": 2}, "v2": {"load_seconds": 3}}
    assert list(json.loads(path.read_text())) == ["v1", "v2"]


def test_files_with_two_names_count_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(bytes(3_000_000))
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    assert full_size_serving.megabytes(tmp_path) == 3


def test_unknown_versions_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        full_size_serving.main(["v4"])
    assert "invalid choice: 'v4' (choose from" in capsys.readouterr().err
