"""Many callers at the same moment: who is served and in what time, who is refused and how soon.

Run it with `python benchmarks/serving/burst.py [checkpoints/nano] [--callers 32]`. The callers are threads of one
process, the server is another.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.report import FRESH, Table, write_report
from benchmarks.serving.running import SENTENCE
from tritone.catalog import open_family
from tritone.client.errors import ServerBusy
from tritone.client.speech_client import SpeechClient
from tritone.supervisor.locate import free_ports

TEXT = " ".join([SENTENCE] * 4)


class Caller(threading.Thread):
    """One caller: waits for the start, asks for a stream, and notes when its chunks came."""

    def __init__(self, url: str, model: str, start: threading.Barrier) -> None:
        super().__init__()
        self._client = SpeechClient(url, model=model)
        self._rate = self._client.sample_rate
        self._start = start
        self.refused_after: float | None = None
        self.first = self.audio = self.took = self.stall = 0.0

    def run(self) -> None:
        """Ask once."""
        self._start.wait()
        began, due = time.perf_counter(), 0.0
        try:
            for chunk in self._client.stream(TEXT, seed=1):
                now = time.perf_counter()
                if not self.first:
                    self.first = now - began
                    due = now
                self.stall += max(0.0, now - due)
                due = max(due, now) + len(chunk) / self._rate
                self.audio += len(chunk) / self._rate
            self.took = time.perf_counter() - began
        except ServerBusy:
            self.refused_after = time.perf_counter() - began
        finally:
            self._client.close()


def burst(url: str, model: str, count: int) -> dict[str, Any]:
    """Return how many of the callers were served and refused, and how soon."""
    start = threading.Barrier(count)
    callers = [Caller(url, model, start) for _ in range(count)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    served = [caller for caller in callers if caller.refused_after is None]
    refused = sorted(caller.refused_after for caller in callers if caller.refused_after is not None)
    factors = sorted(caller.took / caller.audio for caller in served)
    return {
        "callers": count,
        "served": len(served),
        "refused": len(refused),
        "refused_ms_p50": round(1000 * refused[len(refused) // 2], 1) if refused else None,
        "refused_ms_max": round(1000 * refused[-1], 1) if refused else None,
        "first_sound_ms_max": round(1000 * max(caller.first for caller in served)),
        "real_time_factor_max": round(factors[-1], 2),
        "stalled_ms_max": round(1000 * max(caller.stall for caller in served)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write JSON and a page, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=Path("checkpoints/nano"))
    parser.add_argument("--url", help="a running server's gRPC address (default: one is started)")
    parser.add_argument("--callers", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=FRESH, help="default: %(default)s")
    args = parser.parse_args(arguments)
    if args.url is None:
        ports = free_ports()
        options = [f"--{name}-port={port}" for name, port in vars(ports).items()]
        again = [*(arguments or sys.argv[1:]), f"--url=127.0.0.1:{ports.grpc}"]
        serve = [sys.executable, "-m", "tritone.serve", str(args.checkpoint), *options]
        return subprocess.run([*serve, "--run", sys.executable, __file__, *again], check=False).returncode
    results, model = [], open_family(args.checkpoint).name
    for _ in range(args.rounds):
        results.append(burst(args.url, model, args.callers))
        print(results[-1], flush=True)
        time.sleep(1)
    rows = [list(result.values()) for result in results]
    table = Table(f"{args.callers} callers at the same moment", [key.replace("_", " ") for key in results[0]], rows)
    print(
        write_report(
            "burst", "Callers beyond what the machine carries", {"rounds": results}, [table], folder=args.folder
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
