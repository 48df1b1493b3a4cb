"""Streaming under load: time to first audio, gaps, real-time factor and throughput at rising concurrency.

    python benchmarks/load.py [--url localhost:8001] [--concurrency 1,2,4] [--requests 24] [--pid SERVER_PID]

Each level is measured by Tritone's streaming client and by Triton's perf_analyzer. Writes JSON, a page and a plot.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import asr, perf_analyzer
from benchmarks.memory import PeakMemory
from benchmarks.report import FRESH, Table, new_figure, write_report
from benchmarks.timing import Utterance, summarise
from tritone.client.errors import SpeechError
from tritone.client.speech_client import SpeechClient
from tritone.errors import ConfigError, TritoneError

Request = dict[str, str | int | float]


def requests_of(texts: Sequence[str], speakers: Sequence[str], seed: int) -> list[Request]:
    """Return one request per sentence, the speakers taking turns; without speakers the server's default."""
    turns = cycle(speakers or [""])
    return [
        {"target_text": text, **({"speaker": name} if name else {}), "seed": seed + index}
        for index, (text, name) in enumerate(zip(texts, turns, strict=False))
    ]


def stream_once(client: SpeechClient, request: Request) -> Utterance:
    """Return the timing of one request, from sending it to its last chunk."""
    controls = {name: value for name, value in request.items() if name != "target_text"}
    sent, arrivals, samples = time.perf_counter(), [], []
    for chunk in client.stream(str(request["target_text"]), **controls):
        arrivals.append(time.perf_counter())
        samples.append(len(chunk))
    if not arrivals:
        raise SpeechError("the server sent no audio")
    return Utterance(sent, tuple(arrivals), tuple(samples))


def with_client(
    client: SpeechClient, requests: Sequence[Request], concurrency: int, count: int
) -> tuple[list[Utterance], float, list[str]]:
    """Send `count` requests, `concurrency` at once; return utterances, wall seconds, and each failure's text."""
    work = iter(list(islice(cycle(requests), count)))
    lock = threading.Lock()
    done: list[Utterance] = []
    failures: list[str] = []

    def serve() -> None:
        while True:
            with lock:
                request = next(work, None)
            if request is None:
                return
            try:
                utterance = stream_once(client, request)
                with lock:
                    done.append(utterance)
            except SpeechError as error:
                with lock:
                    failures.append(str(error))

    threads = [threading.Thread(target=serve) for _ in range(concurrency)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done, time.perf_counter() - start, failures


def sweep(
    client: SpeechClient, requests: Sequence[Request], levels: Sequence[int], count: int, tools: set[str]
) -> list[dict[str, Any]]:
    """Return the summary of every tool at every level."""
    binary = perf_analyzer.locate() if "perf_analyzer" in tools else None
    rate = client.sample_rate
    rows: list[dict[str, Any]] = []
    for concurrency in levels:
        number = max(count, 2 * concurrency)
        print(f"concurrency {concurrency}: {number} requests", file=sys.stderr)
        if "client" in tools:
            done, wall, failures = with_client(client, requests, concurrency, number)
            row = {"tool": "client", "concurrency": concurrency, **summarise(done, wall, rate, len(failures))}
            rows.append(row | ({"failures": sorted(set(failures))} if failures else {}))
        if binary:
            model = f"{client.model}_stream"
            done, wall = perf_analyzer.run(binary, client.url, model, requests, concurrency, number)
            summary = summarise(done, wall, rate, number - len(done))
            rows.append({"tool": "perf_analyzer", "concurrency": concurrency, **summary})
    return rows


def publish(name: str, rows: Sequence[dict[str, Any]], extra: dict[str, Any], folder: Path) -> Path:
    """Write the three files; return the page."""
    spoken = [row for row in rows if row["requests"]]
    columns: dict[str, Callable[[dict[str, Any]], Any]] = {
        "tool": lambda row: row["tool"],
        "streams": lambda row: row["concurrency"],
        "requests": lambda row: row["requests"],
        "errors": lambda row: row["errors"],
        "first audio P50, ms": lambda row: round(1000 * row["first_audio"]["p50"]),
        "P90": lambda row: round(1000 * row["first_audio"]["p90"]),
        "P99": lambda row: round(1000 * row["first_audio"]["p99"]),
        "between chunks P50, ms": lambda row: row["between_chunks"] and round(1000 * row["between_chunks"]["p50"]),
        "RTF P50": lambda row: row["real_time_factor"]["p50"],
        "stall P90, ms": lambda row: round(1000 * row["stall"]["p90"]),
        "audio s per s": lambda row: row["audio_seconds_per_second"],
    }
    table = Table("Streaming", list(columns), [[column(row) for column in columns.values()] for row in spoken])
    figure, (left, right) = new_figure(columns=2)
    for tool in dict.fromkeys(row["tool"] for row in spoken):
        mine = [row for row in spoken if row["tool"] == tool]
        levels = [row["concurrency"] for row in mine]
        for share, style in (("p50", "-"), ("p90", "--"), ("p99", ":")):
            times = [1000 * row["first_audio"][share] for row in mine]
            left.plot(levels, times, style, marker=".", label=f"{tool} {share.upper()}")
        right.plot(levels, [row["audio_seconds_per_second"] for row in mine], marker=".", label=tool)
    left.set(xlabel="streams at once", ylabel="time to first audio, ms", ylim=(0, None))
    right.set(xlabel="streams at once", ylabel="seconds of audio per second", ylim=(0, None))
    left.legend(fontsize="small")
    right.legend(fontsize="small")
    facts = Table("Server", ["", ""], [[key, value] for key, value in extra.items()])
    return write_report(name, "Streaming under load", {"levels": rows, **extra}, [table, facts], figure, folder)


def main(arguments: list[str] | None = None) -> int:
    """Measure as the command line asks; return 0, or 1 after an error message."""
    parser = argparse.ArgumentParser(description="Concurrency sweep against a running server (gRPC, streaming).")
    parser.add_argument("--url", default="localhost:8001", help="server address (default %(default)s)")
    parser.add_argument("--concurrency", default="1,2,4", help="streams at once (default %(default)s)")
    parser.add_argument("--requests", type=int, default=24, help="per level (default %(default)s)")
    parser.add_argument("--speakers", help="comma-separated (default: all speakers of the model)")
    parser.add_argument("--tools", default="client,perf_analyzer", help="load generators (default %(default)s)")
    parser.add_argument("--pid", type=int, help="the server's process id, to record its memory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="load", help="file name of the results (default %(default)s)")
    parser.add_argument("--folder", type=Path, default=FRESH, help="folder of the results (default %(default)s)")
    options = parser.parse_args(arguments)
    try:
        tools = set(options.tools.split(","))
        if tools - {"client", "perf_analyzer"}:
            raise ConfigError(f"--tools {options.tools}: the tools are client and perf_analyzer")
        if not all(part.isdigit() and int(part) for part in options.concurrency.split(",")):
            raise ConfigError(f"--concurrency {options.concurrency}: give whole numbers such as 1,2,4")
        with SpeechClient(options.url) as client, PeakMemory(options.pid) as memory:
            client.wait_until_ready(10.0)
            speakers = options.speakers.split(",") if options.speakers else client.speakers()
            requests = requests_of(asr.sentences(), speakers, options.seed)
            stream_once(client, requests[0])  # the first request of a fresh server pays for its warm-up
            levels = [int(part) for part in options.concurrency.split(",")]
            rows = sweep(client, requests, levels, options.requests, tools)
            extra = {"speakers": ", ".join(speakers), **memory.result()}
    except (TritoneError, SpeechError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(publish(options.name, rows, extra, options.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
