"""CPU seconds for a second of speech at rising lengths, as a whole utterance and as a stream, one request at a time.

Run it with `python benchmarks/serving/whole.py [checkpoints/nano]`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.report import FRESH, Table, write_report
from benchmarks.serving.running import SENTENCE, cpu_seconds, running
from tritone.client.speech_client import SpeechClient
from tritone.supervisor.service import Service

SENTENCES = (1, 4, 8, 18, 22)
"""Sentences of some two and a half seconds each."""


def measure(service: Service, sentences: int, stream: bool) -> dict[str, float]:
    """Return audio seconds, CPU seconds and their ratio of one request."""
    text = " ".join([SENTENCE] * sentences)
    with SpeechClient(f"127.0.0.1:{service.ports.grpc}", model=service.family.name) as client:
        rate, before = client.sample_rate, cpu_seconds(service)
        if stream:
            samples = sum(len(chunk) for chunk in client.stream(text, seed=1))
        else:
            samples = len(client.synthesize(text, seed=1).waveform)
    used, audio = cpu_seconds(service) - before, samples / rate
    return {"audio_s": round(audio, 1), "cpu_s": round(used, 2), "cpu_s_per_audio_s": round(used / audio, 3)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write JSON and a page, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=Path("checkpoints/nano"))
    parser.add_argument("--folder", type=Path, default=FRESH, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="of which the middle one counts (default: %(default)s)")
    args = parser.parse_args(arguments)
    data: dict[str, list[dict[str, Any]]] = {"whole": [], "stream": []}
    with running(args.checkpoint) as service:
        measure(service, 2, stream=True), measure(service, 2, stream=False)
        for sentences in SENTENCES:
            for kind, results in data.items():
                rounds = [measure(service, sentences, kind == "stream") for _ in range(args.rounds)]
                results.append(sorted(rounds, key=lambda one: one["cpu_s"])[len(rounds) // 2])
                print(kind, results[-1], flush=True)
    rows = [
        [f"{whole['audio_s']:g}", *(one[key] for one in (whole, stream) for key in ("cpu_s", "cpu_s_per_audio_s"))]
        for whole, stream in zip(data["whole"], data["stream"], strict=True)
    ]
    table = Table("One request at a time", ["audio, s", "whole: CPU s", "a second", "stream: CPU s", "a second"], rows)
    print(
        write_report(
            "whole", "What a second of speech costs, by the length of the utterance", data, [table], folder=args.folder
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
