"""A family written from CONTRIBUTING.md: exported to every format, compared, rendered and served by a Triton server.

The package is copied and the family added to the copy as a contributor would: one folder and one line in the catalog.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.prose import ROOT
from support.toy_family import write_checkpoint

from tritone.supervisor.locate import free_ports

LINE = 'Kind("toy.json", partial(has_file, name="toy.json"), "tritone.families.toy.family"),'
SPEAK = """
import sys
import numpy as np
from tritone.client.speech_client import SpeechClient
from tritone.load import load_model

expected = load_model("checkpoint").synthesize("Hello there")
with SpeechClient(sys.argv[1], model="toy", timeout=60) as client:
    whole = client.synthesize("Hello there").waveform
    chunks = list(client.stream("Hello there"))
assert len(expected) == 11 * 400, len(expected)
assert np.abs(whole - expected).max() < 1e-5
assert len(chunks) == 11 and np.abs(np.concatenate(chunks) - expected).max() < 1e-5
print("spoken")
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the extended package and a checkpoint of the family."""
    folder = tmp_path_factory.mktemp("fourth")
    shutil.copytree(ROOT / "tritone", folder / "tritone", ignore=shutil.ignore_patterns("__pycache__"))
    catalog = folder / "tritone" / "catalog.py"
    source = catalog.read_text()
    assert source.count("KINDS = [\n") == 1
    catalog.write_text(source.replace("KINDS = [\n", f"KINDS = [\n    {LINE}\n"))
    home = folder / "tritone" / "families" / "toy"
    home.mkdir()
    (home / "__init__.py").touch()
    shutil.copyfile(ROOT / "tests" / "support" / "toy_family.py", home / "family.py")
    write_checkpoint(folder / "checkpoint")
    (folder / "speak.py").write_text(SPEAK)
    return folder


def run(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, "-m", "tritone", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_exported_compared_rendered_and_served(workplace: Path) -> None:
    everything = ("--formats", "torchscript,onnx,tensorrt", "--precision", "fp32,fp16")
    run(workplace, "build", "checkpoint", "--out", "build", *everything)
    built = {path.name for path in (workplace / "build").rglob("tones.*")}
    assert built >= {"tones.onnx", "tones.fp16.onnx", "tones.fp32.zip", "tones.fp16.zip"}
    assert built >= {"tones.fp32.plan", "tones.fp16.plan"}
    run(workplace, "parity", "checkpoint", "--out", "build", "--formats", "torchscript,onnx")
    ports = free_ports()
    options = [f"--{name}-port={port}" for name, port in vars(ports).items()]
    speak = (sys.executable, "speak.py", f"127.0.0.1:{ports.grpc}")
    printed = run(workplace, "serve", "checkpoint", "--build-dir", "build", *options, "--run", *speak)
    assert printed.endswith("spoken\n")
    rendered = {path.parent.name for path in (workplace / "build").rglob("config.pbtxt")}
    assert rendered == {"toy", "toy_stream", "toy_speak"}
