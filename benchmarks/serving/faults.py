"""The time until a server speaks again after each of its processes was killed or stopped while it spoke.

Run it with `python benchmarks/serving/faults.py [checkpoints/nano]`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.report import FRESH, Table, write_report
from benchmarks.serving.running import SENTENCE, processes, running
from tritone.client.errors import SpeechError
from tritone.client.speech_client import SpeechClient
from tritone.supervisor.service import Service

LONG = " ".join([SENTENCE] * 6)


def good_request(service: Service) -> float:
    """Return the seconds until a whole utterance and a stream were spoken, asked again after each error."""
    began = time.monotonic()
    while True:
        try:
            with SpeechClient(f"127.0.0.1:{service.ports.grpc}", model=service.family.name, timeout=60) as client:
                client.synthesize("Hello there.")
                sum(len(chunk) for chunk in client.stream("Hello there."))
            return time.monotonic() - began
        except SpeechError:
            if time.monotonic() - began > 120:
                raise
            time.sleep(0.02)


def talk(service: Service, stream: bool, ends: list[str]) -> None:
    """Ask for a long text, and note how that ended."""
    try:
        with SpeechClient(f"127.0.0.1:{service.ports.grpc}", model=service.family.name, timeout=120) as client:
            if stream:
                sum(len(chunk) for chunk in client.stream(LONG))
            else:
                client.synthesize(LONG)
        ends.append("spoken")
    except SpeechError as error:
        ends.append(type(error).__name__)


def fault(service: Service, name: str, number: signal.Signals) -> dict[str, Any]:
    """Send a signal to a process during a whole utterance and a stream; return how they ended, and when it spoke."""
    ends: list[list[str]] = [[], []]
    talks = [threading.Thread(target=talk, args=(service, stream, ends[stream])) for stream in (False, True)]
    for thread in talks:
        thread.start()
    time.sleep(0.7)
    os.kill(processes(service)[name], number)
    seconds = good_request(service)
    for thread in talks:
        thread.join()
    return {
        "process": name,
        "signal": number.name,
        "speaks_again_s": round(seconds, 2),
        "whole": ends[0][0],
        "stream": ends[1][0],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write JSON and a page, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=Path("checkpoints/nano"))
    parser.add_argument("--folder", type=Path, default=FRESH, help="default: %(default)s")
    args = parser.parse_args(arguments)
    results = []
    with running(args.checkpoint, "--streams=8") as service:
        good_request(service)
        names = [name for name in processes(service) if name != "front door" and not name.endswith(")")]
        for number in (signal.SIGKILL, signal.SIGSTOP):
            for name in names:
                results.append(fault(service, name, number))
                print(results[-1], flush=True)
                time.sleep(2)
    table = Table(
        "After each fault",
        ["process", "signal", "speaks again, s", "whole", "stream"],
        [list(one.values()) for one in results],
    )
    print(
        write_report(
            "faults",
            "Processes that are killed and stopped while a server speaks",
            {"faults": results},
            [table],
            folder=args.folder,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
