"""The cost of MOSS-TTSD's codec at its released size: ten seconds decoded, one second encoded, on one thread.

    python benchmarks/moss_ttsd/codec.py [--only decode] [--rate 32000] [--repeats 5]

Weights are random, which does not change the work. Times are CPU seconds of the process, the fewest of the repeats, so
that other programs on the machine change them little. What onnxruntime gives is compared with torch's. Prints, and
writes into build/benchmarks/codec.json; the exit status is 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.report import stamp
from tritone.build.layout import stage_path
from tritone.engines.onnx import onnx_call
from tritone.engines.torch import torch_call
from tritone.families.moss_ttsd.codec.config import released
from tritone.families.moss_ttsd.codec.stages import codec_stages
from tritone.families.moss_ttsd.codec.windows import decode, encode
from tritone.stage import Call

FRESH = Path(__file__).resolve().parents[2] / "build" / "benchmarks" / "codec.json"
SECONDS = {"decode": 10, "encode": 1}
PUBLISHED = {"decode": 3.9, "encode": 15.1}
"""CPU seconds of the published code for the same, eager torch on one thread of the machine the results are from; its
encoder always hears 30 seconds."""
TIMES = {"decode": 2.0, "encode": 5.0}
"""The factor by which the served engine has to be faster."""


def random_codec(rate: int) -> Any:
    """Return the released networks with random weights that keep signals at a sensible level."""
    import torch

    from tritone.families.moss_ttsd.codec.network import XYTokenizer

    torch.manual_seed(0)
    codec = XYTokenizer(released(rate)).eval()
    for level in codec.quantizer.quantizers:
        level.codebook.normal_(std=0.3)  # type: ignore[operator]
    return codec


def cheapest(call: Callable[[], object], repeats: int) -> float:
    """CPU seconds of the cheapest of so many calls, after one that does not count."""
    call()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return round(min(times), 3)


def export(rate: int, name: str, folder: Path) -> None:
    """Writes one stage's file; run in a process of its own, whose memory the system gets back."""
    from tritone.export.to_onnx import export_stage

    (stage,) = (one for one in codec_stages(released(rate), lambda: random_codec(rate)) if one.name == name)
    path = stage_path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    export_stage(stage, path)


def measure(direction: str, rate: int, repeats: int, folder: Path) -> dict[str, float]:
    """CPU seconds by engine, and how far onnxruntime is from torch: share of the peak, or of the codes."""
    import torch

    torch.set_num_threads(1)
    config, rng = released(rate), np.random.default_rng(0)
    wanted = ("codec_encoder",) if direction == "encode" else ("codec_decoder", "codec_vocoder")
    stages = [stage for stage in codec_stages(config, lambda: random_codec(rate)) if stage.name in wanted]
    for name in wanted:
        worker = multiprocessing.get_context("spawn").Process(target=export, args=(rate, name, folder))
        worker.start()
        worker.join()
        if worker.exitcode:
            raise SystemExit(f"error: the export of {name} ended with status {worker.exitcode}")
    work: Callable[[Call], np.ndarray]
    if direction == "encode":
        wav = (0.1 * rng.standard_normal(16000 * SECONDS["encode"])).astype(np.float32)
        work = partial(encode, config=config, wav=wav)
    else:
        codes = rng.integers(0, 1024, (config.channels, round(12.5 * SECONDS["decode"])))
        work = partial(decode, config=config, codes=codes)
    results, given = {"published": PUBLISHED[direction]}, []
    for name, opened in (("onnxruntime", lambda: onnx_call(folder, stages, 1)), ("torch", lambda: torch_call(stages))):
        call: Call = opened()
        given.append(work(call))
        results[name] = cheapest(partial(work, call), repeats)
    found, reference = given
    different = (reference != found).mean() if direction == "encode" else np.abs(reference - found).max()
    peak = 1.0 if direction == "encode" else np.abs(reference).max()
    return results | {"difference": float(different / peak)}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(SECONDS), help="one direction; the other's results stay as they are")
    parser.add_argument("--rate", type=int, default=32000, choices=(24000, 32000), help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=FRESH, help="default: %(default)s")
    args = parser.parse_args(arguments)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    slow = []
    for direction in (args.only,) if args.only else SECONDS:
        with tempfile.TemporaryDirectory(prefix="tritone-codec-", dir="/var/tmp") as folder:
            row = measure(direction, args.rate, args.repeats, Path(folder))
        times = {engine: round(row["published"] / row[engine], 2) for engine in ("torch", "onnxruntime")}
        print(f"{direction} {SECONDS[direction]} s, CPU seconds: {row}, times as fast: {times}", flush=True)
        kept = json.loads(args.json.read_text(encoding="utf-8")) if args.json.is_file() else {}
        facts = {"sample_rate": args.rate, "cores": os.cpu_count(), "load": os.getloadavg()}
        found = kept | stamp() | {direction: facts | row | {"times_as_fast": times, "wanted": TIMES[direction]}}
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        slow += [direction] if times["onnxruntime"] < TIMES[direction] else []
    for name in slow:
        print(f"error: {name} must be {TIMES[name]:g} times as fast as the published code", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
