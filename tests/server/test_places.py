"""Machines people have: folders of any name, a proxy in the environment, a server of another checkpoint on the port."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
import wave
from pathlib import Path

from tritone.supervisor.launch import ROOT
from tritone.supervisor.locate import free_ports
from tritone.supervisor.service import Service

ODD = "a (b) [c] $HOME & \"q\" 's' ;声音"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def serve(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key not in ("no_proxy", "NO_PROXY")} | variables
    command = [sys.executable, "-m", "tritone.serve", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT, check=False, env=env)


def copied(folder: Path, into: Path) -> Path:
    """Return a copy of the folder without logs; its files are links where the disk allows it."""

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    shutil.copytree(
        folder, into, copy_function=link, ignore=shutil.ignore_patterns("*.log", ".lock", "model_repository")
    )
    return into


def test_folders_of_any_name_behind_a_proxy(checkpoint: Path, server: Service, tmp_path: Path) -> None:
    voice = copied(checkpoint, tmp_path / ODD / "voice")
    build = copied(Path(server.triton.env["TRITONE_BUILD_DIR"]), tmp_path / ODD / "build")
    ports = free_ports()
    spoken = tmp_path / ODD / "spoken.wav"
    client = [sys.executable, "client/speak.py", f"--output={spoken}", "--stream"]
    result = serve(
        f"{voice}/", f"--build-dir={build}", "--threads=1", "--host=localhost",
        *(f"--{name}-port={port}" for name, port in vars(ports).items()),
        "--run", *client, f"--url=localhost:{ports.grpc}", "--", "It costs five.",
        **dict.fromkeys(PROXIES, "http://127.0.0.1:9"),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "exporting" not in result.stderr
    with wave.open(str(spoken)) as sound:
        assert sound.getnframes() > sound.getframerate() / 4


def test_a_server_of_another_checkpoint_is_not_spoken_with(checkpoint: Path, server: Service, tmp_path: Path) -> None:
    other = copied(checkpoint, tmp_path / "other")
    settings = next(other.glob("*.yaml"))
    content = settings.read_text()
    settings.unlink()  # it may be a link to that of the first checkpoint
    settings.write_text(f"# another one\n{content}")
    options = [f"--{name}-port={port}" for name, port in vars(server.ports).items()]
    result = serve(str(other), *options, f"--build-dir={tmp_path}", "--run", "touch", str(tmp_path / "ran"))
    assert result.returncode == 1 and not (tmp_path / "ran").exists()
    assert f"speaks with another checkpoint: {checkpoint.name} (" in result.stderr
    assert ", not other (" in result.stderr
    with urllib.request.urlopen(
        f"http://127.0.0.1:{server.ports.http}/v2/models/cosyvoice2/config", timeout=30
    ) as page:
        said = json.load(page)["parameters"]
    assert said["checkpoint"]["string_value"].startswith(f"{checkpoint.name} ") and said["sample_rate"]
