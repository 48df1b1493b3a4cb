"""Mixed traffic for a long time: errors, first sound, and the memory of every process, minute by minute.

Run it with `python benchmarks/serving/soak.py [checkpoints/nano] [--minutes 30] [--callers 4]`.

Streams, whole utterances over gRPC and HTTP, cloned voices, requests that are cancelled and requests that are wrong.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.report import FRESH, Table, new_figure, write_report
from benchmarks.serving.running import SENTENCE, private_bytes, processes, running, shared_bytes
from tritone.client.errors import InvalidArgument, ServerBusy, SpeechError
from tritone.client.speech_client import SpeechClient
from tritone.supervisor.service import Service

TEXTS = tuple(" ".join([SENTENCE] * count) for count in (1, 1, 2, 3))
WARM_UP = 0.2
"""Part of the time after which memory is compared."""


class Traffic:
    """Callers that ask one after another, each for something else, until the end."""

    def __init__(self, service: Service, seed: int) -> None:
        self._service, self._seed = service, seed
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self.first_sounds: list[float] = []
        self.end = threading.Event()

    def call(self, number: int) -> None:
        """Ask until the end; this is one caller's thread."""
        rng = random.Random(self._seed + number)
        kinds: list[tuple[str, Callable[[random.Random], None]]] = [
            ("stream", self._stream), ("stream", self._stream), ("stream", self._stream), ("whole", self._whole),
            ("http", self._http), ("cloned", self._cloned), ("cancelled", self._cancelled), ("wrong", self._wrong),
        ]  # fmt: skip
        while not self.end.is_set():
            kind, ask = rng.choice(kinds)
            try:
                ask(rng)
                outcome = kind
            except ServerBusy:
                outcome = f"{kind}, busy"
                self.end.wait(0.2)
            except SpeechError as error:
                outcome = f"{kind}, failed"
                with self._lock:
                    self.errors.append(f"{kind}: {error}")
            with self._lock:
                self.counts[outcome] += 1

    def _client(self, http: bool = False) -> SpeechClient:
        port = self._service.ports.http if http else self._service.ports.grpc
        return SpeechClient(f"127.0.0.1:{port}", "http" if http else "grpc", self._service.family.name, timeout=120)

    def _stream(self, rng: random.Random, **controls: Any) -> None:
        with self._client() as client:
            began = time.monotonic()
            for number, _ in enumerate(client.stream(rng.choice(TEXTS), seed=rng.randrange(9), **controls)):
                if number == 0:
                    with self._lock:
                        self.first_sounds.append(time.monotonic() - began)

    def _whole(self, rng: random.Random) -> None:
        with self._client() as client:
            client.synthesize(rng.choice(TEXTS), seed=rng.randrange(9))

    def _http(self, rng: random.Random) -> None:
        with self._client(http=True) as client:
            client.synthesize(TEXTS[0], seed=rng.randrange(9))

    def _cloned(self, rng: random.Random) -> None:
        noise = np.random.default_rng(rng.randrange(8)).standard_normal(32_000).astype(np.float32)
        self._stream(rng, reference=0.1 * noise)

    def _cancelled(self, rng: random.Random) -> None:
        with self._client() as client:
            for _ in client.stream(TEXTS[-1]):
                break

    def _wrong(self, rng: random.Random) -> None:
        with self._client() as client:
            try:
                client.synthesize("Hello.", speed=rng.choice([0.01, 99.0]))
            except InvalidArgument:
                return
        raise SpeechError("a speed out of range was spoken")


def memory(service: Service) -> dict[str, float]:
    """Return the megabytes of each process, and of shared memory."""
    found = {name: private_bytes(pid) / 2**20 for name, pid in processes(service).items()}
    return {**found, "shared memory": shared_bytes(service) / 2**20}


def soak(service: Service, minutes: float, callers: int, seed: int = 0) -> dict[str, Any]:
    """Return counts, errors, first sounds and memory over time."""
    traffic = Traffic(service, seed)
    threads = [threading.Thread(target=traffic.call, args=(number,)) for number in range(callers)]
    began, samples = time.monotonic(), []
    for thread in threads:
        thread.start()
    while (passed := time.monotonic() - began) < 60 * minutes:
        samples.append({"seconds": round(passed), **{name: round(size, 1) for name, size in memory(service).items()}})
        time.sleep(min(10.0, 60 * minutes / 20))
    traffic.end.set()
    for thread in threads:
        thread.join()
    warm = samples[int(len(samples) * WARM_UP) :]
    half = len(warm) // 2
    growth = {}
    for name in warm[0]:
        if name != "seconds":
            first, last = (float(np.median([one[name] for one in part])) for part in (warm[:half], warm[half:]))
            growth[name] = {
                "first_half_mb": round(first, 1),
                "second_half_mb": round(last, 1),
                "change": round(last / first - 1, 4) if first else 0.0,
            }
    sounds = np.array(traffic.first_sounds) * 1000
    return {
        "minutes": minutes,
        "callers": callers,
        "counts": dict(sorted(traffic.counts.items())),
        "errors": traffic.errors[:20],
        "first_sound_ms": {f"p{level}": round(float(np.percentile(sounds, level))) for level in (50, 90, 99)},
        "restarts": sum(
            sample.value
            for sample in next(iter(service.door.metrics.restarts.collect())).samples
            if sample.name.endswith("_total")
        ),
        "growth": growth,
        "memory": samples,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the traffic, write JSON, a page and a plot, and return 1 if a request failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=Path("checkpoints/nano"))
    parser.add_argument("--minutes", type=float, default=30, help="default: %(default)g")
    parser.add_argument("--callers", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=FRESH, help="default: %(default)s")
    args = parser.parse_args(arguments)
    with running(args.checkpoint) as service:
        found = soak(service, args.minutes, args.callers)
    figure, axes = new_figure()
    for name in found["growth"]:
        axes.plot([one["seconds"] / 60 for one in found["memory"]], [one[name] for one in found["memory"]], label=name)
    axes.set_xlabel("minutes"), axes.set_ylabel("MB of its own"), axes.legend(fontsize=7)
    rows = [[name, *values.values()] for name, values in found["growth"].items()]
    tables = [
        Table("Requests", ["kind", "count"], [[kind, count] for kind, count in found["counts"].items()]),
        Table("First sound, ms", list(found["first_sound_ms"]), [list(found["first_sound_ms"].values())]),
        Table("Memory after the warm-up, MB", ["process", "first half", "second half", "change"], rows),
    ]
    title = f"{args.minutes:g} minutes of mixed traffic from {args.callers} callers"
    print(write_report("soak", title, found, tables, figure, args.folder))
    print(found["counts"], found["errors"][:3])
    return 1 if found["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
