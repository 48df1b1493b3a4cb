"""A checkpoint of official size with random weights: exported, served by a real Triton server, and spoken with.

    python benchmarks/cosyvoice/full_size_serving.py v1|v2|v3
        [--engine onnxruntime|torchscript|torch] [--seconds 4] [--keep FOLDER]

Measures what the official checkpoints demand of a machine: disk, memory, and time to export, load and speak. The speech
is noise; its length and finiteness are checked.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.cosyvoice.random_checkpoint import TEXT, random_checkpoint
from benchmarks.memory import PeakMemory
from benchmarks.report import machine
from tritone.build import manifest
from tritone.client.errors import SpeechError
from tritone.client.speech_client import SpeechClient
from tritone.engines.open import engine_name
from tritone.errors import ArtifactError, TritoneError
from tritone.families.cosyvoice.published import PUBLISHED
from tritone.serve import FORMATS_ON_CPU
from tritone.supervisor.health import ready
from tritone.supervisor.launch import ROOT
from tritone.supervisor.locate import Ports, free_ports

FRESH = Path(__file__).resolve().parents[2] / "build" / "benchmarks" / "full_size_serving.json"
VERSIONS = {"v1": 1, "v2": 2, "v3": 3}
LOAD_SECONDS = 900


def megabytes(folder: Path) -> int:
    """Return the megabytes of the files below a folder, counting each once."""
    files = {(s.st_dev, s.st_ino): s.st_size for s in (p.stat() for p in folder.rglob("*") if p.is_file())}
    return round(sum(files.values()) / 1e6)


def timed(command: list[str]) -> dict[str, float]:
    """Run a command; return its wall and CPU seconds and its memory; ArtifactError when it fails.

    Wall seconds depend on the load of the machine. Memory is that of the largest process so far.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise ArtifactError(f"{' '.join(command[1:2])} failed: {(done.stderr.strip() or 'killed').splitlines()[-1]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = round(after.ru_maxrss / 2**20, 2)
    return {"seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(cpu, 1), "peak_gib": peak}


def exported(checkpoint: Path, build: Path, engine: str) -> dict[str, Any]:
    """Build what the server loads; return seconds, memory, size, and each file's seconds and megabytes."""
    options = ["--model-dir", str(checkpoint), "--out", str(build), "--target", "cpu", "--quick"]
    options += ["--formats", ",".join(FORMATS_ON_CPU[engine])]
    found: dict[str, Any] = timed([sys.executable, "export/build_engines.py", *options])
    files = {key: [entry.seconds, round(entry.bytes / 1e6)] for key, entry in manifest.read_manifest(build).items()}
    return {**found, "megabytes": megabytes(build), "files": dict(sorted(files.items()))}


@contextmanager
def served(checkpoint: Path, build: Path, ports: Ports, engine: str, threads: int) -> Iterator[subprocess.Popen[bytes]]:
    """Yield `python -m tritone.serve` as a user runs it; the caller waits until it is ready."""
    options = [f"--{name}-port={port}" for name, port in vars(ports).items()]
    options += [f"--build-dir={build}", f"--engine={engine}", f"--threads={threads}", f"--timeout={LOAD_SECONDS}"]
    command = [sys.executable, "-m", "tritone.serve", str(checkpoint), *options]
    with open(build / "serve.log", "wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def wait(process: subprocess.Popen[bytes], ports: Ports, model: str, build: Path) -> float:
    """Return the seconds until the model accepts requests.

    ArtifactError with the server's last line when it stops.
    """
    began = time.monotonic()
    while not ready(ports.http, model=model):
        if process.poll() is not None:
            said = (build / "serve.log").read_text(errors="replace").strip().splitlines()
            raise ArtifactError(f"the server stopped with status {process.returncode}: {said[-1] if said else ''}")
        time.sleep(0.2)
    return round(time.monotonic() - began, 1)


def spoken(client: SpeechClient, streaming: bool) -> dict[str, Any]:
    """Speak one sentence through one entry; return seconds, samples, and for a stream the seconds to its first
    chunk.
    """
    began = time.monotonic()
    first: dict[str, float] = {}
    if streaming:
        chunks = []
        for chunk in client.stream(TEXT, seed=1):
            first = first or {"first_chunk_seconds": round(time.monotonic() - began, 2)}
            chunks.append(chunk)
        wave = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
    else:
        wave = client.synthesize(TEXT, seed=1).waveform
    seconds = time.monotonic() - began
    check(wave, client.sample_rate)
    length = len(wave) / client.sample_rate
    return {
        "seconds": round(seconds, 2), **first, "samples": len(wave), "speech_seconds": round(length, 2),
        "real_time_factor": round(seconds / length, 2), "rms": round(float(np.sqrt(np.mean(np.square(wave)))), 4),
    }  # fmt: skip


def check(wave: np.ndarray, rate: int) -> None:
    """Raise ArtifactError unless the waveform exists, is finite and is not constant."""
    if not len(wave):
        raise ArtifactError("the server answered without audio")
    if not np.isfinite(wave).all():
        raise ArtifactError(f"{int((~np.isfinite(wave)).sum())} of {len(wave)} samples are not finite")
    if float(np.ptp(wave)) < 1e-4:
        raise ArtifactError(f"{len(wave) / rate:.2f} s of audio are silent")


def measure(version: str, folder: Path, seconds: float, engine: str, threads: int) -> dict[str, Any]:
    """Return all results of one version; each part is printed when it is known."""
    checkpoint, build = folder / version, folder / f"build-{version}"
    found: dict[str, Any] = {"machine": machine(), "engine": engine, "threads": threads}

    def keep(part: str, value: Any) -> None:
        found[part] = value
        print(f"{version} {part}: {value}", flush=True)

    if not (checkpoint / "spk2info.pt").is_file():  # written last
        random_checkpoint(checkpoint, VERSIONS[version], seconds)
    keep("checkpoint_megabytes", megabytes(checkpoint))
    keep("export", exported(checkpoint, build, engine))
    ports, model = free_ports(), f"cosyvoice{VERSIONS[version]}"
    with served(checkpoint, build, ports, engine, threads) as process, PeakMemory(process.pid) as memory:
        keep("load_seconds", wait(process, ports, model, build))
        keep("loaded", memory.result())
        with SpeechClient(f"127.0.0.1:{ports.grpc}", model=model, timeout=600) as client:
            keep("whole", spoken(client, streaming=False))
            keep("stream", spoken(client, streaming=True))
        keep("peak", memory.result())
    rate = PUBLISHED[VERSIONS[version]].sample_rate
    for entry in ("whole", "stream"):
        if not math.isclose(found[entry]["samples"] / rate, seconds, rel_tol=0.1):
            raise ArtifactError(f"{entry}: {found[entry]['samples']} samples, expected about {seconds:g} s")
    return found


def record(version: str, found: dict[str, Any], path: Path) -> None:
    """Write one version's numbers into the file beside those of other versions."""
    known = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(dict(sorted({**known, version: found}.items())), indent=1) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; 0, or 1 with a sentence on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", choices=tuple(VERSIONS))
    parser.add_argument(
        "--engine", type=engine_name, choices=tuple(FORMATS_ON_CPU), default="onnxruntime", help="default: %(default)s"
    )
    parser.add_argument(
        "--seconds", type=float, default=4, help="seconds of speech for the sentence (default: %(default)g)"
    )
    parser.add_argument("--threads", type=int, default=min(4, os.cpu_count() or 1), help="default: %(default)s")
    parser.add_argument("--keep", type=Path, help="folder where checkpoint and exports are kept for the next run")
    parser.add_argument("--json", type=Path, default=FRESH, help="default: %(default)s")
    args = parser.parse_args(arguments)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Not /tmp, which is memory on some machines.
        with tempfile.TemporaryDirectory(prefix="tritone-full-size-", dir="/var/tmp") as scratch:
            found = measure(args.version, args.keep or Path(scratch), args.seconds, args.engine, args.threads)
    except (TritoneError, SpeechError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    record(args.version, found, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
